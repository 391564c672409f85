package publisher

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/flatten"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// Derived says what a source comes to.
type Derived struct {
	Tree    imagemeta.TreeID
	Entries int
	Bytes   int64 // plain bytes of regular files, hard links once
}

// Derive finds the tree that a source comes to, as publishing would, and
// publishes nothing: contents are hashed as they are met and forgotten, so that
// it needs memory for the entries alone. What is read is counted in p, which may
// be nil.
func Derive(ctx context.Context, src *source.Source, p *source.Progress) (*Derived, error) {
	src.Count(p)
	tree, err := flatten.Flatten(ctx, src.Layers, &hashing{buf: make([]byte, 256<<10)}, flatten.Options{Plain: src.Kind != source.KindImage})
	if err != nil {
		return nil, err
	}
	entries := tree.Entries()
	id, err := imagemeta.Encode(io.Discard, entries)
	if err != nil {
		return nil, fmt.Errorf("list the tree: %w", err)
	}
	return &Derived{Tree: id, Entries: len(entries), Bytes: tree.Totals.Bytes}, nil
}

// hashing names contents and keeps none.
type hashing struct{ buf []byte }

// Ingest implements [flatten.Ingester].
func (h *hashing) Ingest(ctx context.Context, size int64, r io.Reader) (object.ContentID, error) {
	sum := sha256.New()
	for size > 0 {
		n, err := io.ReadFull(r, h.buf[:min(size, int64(len(h.buf)))])
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return object.ContentID{}, fmt.Errorf("read content: %w", err)
		}
		sum.Write(h.buf[:n]) //nolint:errcheck // a hash.Hash never fails
		size -= int64(n)
	}
	return object.ContentID(sum.Sum(nil)), nil
}
