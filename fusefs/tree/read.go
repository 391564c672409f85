package tree

import (
	"context"
	"errors"
	"fmt"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// errSize reports a content that is not as long as its attributes say. Serving
// it would show the wrong bytes: zeroes at the end, or an end too early.
var errSize = errors.New("content has another size than its attributes")

// ReadAt implements [fusefs.Files].
func (f *FS) ReadAt(ctx context.Context, node uint64, p []byte, off int64) (int, error) {
	return f.contents.ReadAt(ctx, f.node(node), p, off)
}

func (f *FS) open(ctx context.Context, n view.Node) (view.Content, error) {
	a, err := f.view.Attr(ctx, n)
	if err != nil {
		return nil, err
	}
	c, err := f.view.Open(ctx, n)
	if err != nil {
		return nil, err
	}
	if c.Size() != a.Size {
		err := fmt.Errorf("node %d: %w: %d and %d bytes", n, errSize, c.Size(), a.Size)
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
