package tree

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// errSize reports a content that is not as long as its attributes say. Serving
// it would show the wrong bytes: zeroes at the end, or an end too early.
var errSize = errors.New("content has another size than its attributes")

// ReadAt implements [fusefs.Files].
func (f *FS) ReadAt(ctx context.Context, node uint64, p []byte, off int64) (int, error) {
	c, err := f.contents.acquire(ctx, f.node(node))
	if err != nil {
		return 0, err
	}
	defer f.contents.release(c)
	return readFull(ctx, c.content, p, off)
}

// readFull fills p up to the content's end. Whatever is shorter is an error: the
// kernel takes a short answer for the end of the file.
func readFull(ctx context.Context, c view.Content, p []byte, off int64) (int, error) {
	rest := c.Size() - off
	if off < 0 || rest <= 0 {
		return 0, nil
	}
	if rest < int64(len(p)) {
		p = p[:rest]
	}
	done := 0
	for done < len(p) {
		n, err := c.ReadAt(ctx, p[done:], off+int64(done))
		done += n
		switch {
		case done == len(p):
		case errors.Is(err, io.EOF), err == nil && n == 0:
			return 0, fmt.Errorf("read at offset %d of %d: %w", off+int64(done), c.Size(), io.ErrUnexpectedEOF)
		case err != nil:
			return 0, err
		}
	}
	return done, nil
}
