package opened

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// ReadAt fills p from off with the content of n, up to its end; fewer bytes are
// the end, at which there is no error.
func (c *Set) ReadAt(ctx context.Context, n view.Node, p []byte, off int64) (int, error) {
	e, err := c.acquire(ctx, n)
	if err != nil {
		return 0, err
	}
	defer c.release(e)
	return readFull(ctx, e.content, p, off)
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
