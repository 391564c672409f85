package image

import (
	"context"
	"errors"
	"io"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// Naming returns the trees in use that have a content. The kernel reads cached
// contents without us, so whoever finds one damaged has to know whom it served.
func (t *Tier) Naming(id object.ContentID) []imagemeta.TreeID { return t.contents.Trees(id) }

// Restore fetches a content that some tree in use has, if it is not cached.
func (t *Tier) Restore(ctx context.Context, id object.ContentID) error {
	c, err := t.contents.Open(ctx, id)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // read only
	// Of one in pieces, each has to be read to be here.
	buf := make([]byte, 1<<20)
	for off := int64(0); off < c.Size(); {
		n, err := c.ReadAt(ctx, buf, off)
		off += int64(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}
