package ingest

import (
	"context"
	"crypto/sha256"
	"io"

	"github.com/rootstock-cf/rootstock/object"
)

// takeLarge reads a content that no buffer holds, piece by piece. What a buffer
// holds beyond a cut is moved to the next one: a copy, but of memory, and far
// cheaper than the hash.
func (in *Ingester) takeLarge(ctx context.Context, size int64, r io.Reader, named func(object.ContentID)) error {
	select {
	case in.cutting <- struct{}{}:
		defer func() { <-in.cutting }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	largest := in.o.Chunking.Max
	b, err := in.buffers.get(ctx, int(min(size, largest)))
	if err != nil {
		return err
	}
	cuts := make(chan cutting)
	defer close(cuts)
	in.naming.Add(1)
	in.wg.Go(func() { in.nameLarge(cuts, size, named) })
	for have, left := 0, size; ; {
		if err := in.fill(b[have:], r); err != nil {
			in.buffers.put(b)
			return err
		}
		cut := in.o.Chunking.Cut(b)
		var next []byte
		if left -= int64(cut); left > 0 {
			if next, err = in.buffers.get(ctx, int(min(left, largest))); err != nil {
				in.buffers.put(b)
				return err
			}
			have = copy(next, b[cut:])
		}
		cuts <- cutting{b, cut} // received whatever happens
		if left == 0 {
			return nil
		}
		b = next
	}
}

// cutting is a buffer whose first bytes are the next piece.
type cutting struct {
	b    []byte
	size int
}

// nameLarge hashes a content in the order of its pieces, each of which goes on
// to be stored. It ends when cuts is closed, and names a content of size bytes
// only.
func (in *Ingester) nameLarge(cuts <-chan cutting, size int64, named func(object.ContentID)) {
	defer in.naming.Done()
	sum := sha256.New()
	var pieces []*piece
	left := size
	for c := range cuts {
		slot, err := in.slot()
		if err != nil {
			in.buffers.put(c.b)
			continue // the run has failed
		}
		plain := c.b[:c.size]
		sum.Write(plain) //nolint:errcheck // a hash.Hash never fails
		in.slots <- slot
		p := &piece{size: int64(c.size)}
		pieces = append(pieces, p)
		left -= p.size
		in.start(in.ctx, c.b, func() error { return in.piece(p, plain) }) //nolint:errcheck // the run has failed
	}
	if left != 0 {
		return
	}
	id := object.ContentID(sum.Sum(nil))
	named(id)
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.contents[id] == nil {
		in.contents[id] = &content{size: size, pieces: pieces}
	}
}
