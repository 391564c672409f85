package client

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

// assembly is a chunked content known by its digest. It is read chunk by chunk;
// once all chunks are in the cache they are copied into one file, whose digest
// is checked, and dropped.
//
// A chunk is verified by the hash of its object before anything of it is read,
// the content as a whole only in the end: which chunks make it up is what the
// signed table says.
type assembly struct {
	chunked
	contents *Contents
	id       object.ContentID
	key      cache.Key // what it is stored under when it is in one piece

	mu      sync.Mutex
	have    []bool
	missing int
}

func (s *Contents) assemble(src source, id object.ContentID, o origin) *assembly {
	a := &assembly{contents: s, id: id, have: make([]bool, len(o.Chunks))}
	a.chunked = chunked{source: src, size: o.Size, chunks: make([]catalog.Chunk, len(o.Chunks)), seen: a.seen}
	off := int64(0)
	for i, c := range o.Chunks {
		a.chunks[i] = catalog.Chunk{Offset: off, Size: c.Size, Hash: c.Hash}
		off += c.Size
		if a.have[i] = s.cache.Has(cache.Object(c.Hash, src.compression)); !a.have[i] {
			a.missing++
		}
	}
	a.key = o.key(id, a.chunks)
	if a.missing == 0 { // the last reader's process did not get to it
		a.start()
	}
	return a
}

func (a *assembly) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if a.contents.cache.Has(a.key) {
		if f, ok := a.contents.cache.Lookup(ctx, a.key); ok {
			defer f.Close() //nolint:errcheck // read only
			return f.ReadAt(p, off)
		}
	}
	return a.chunked.ReadAt(ctx, p, off)
}

// seen notes that a chunk is in the cache.
func (a *assembly) seen(chunk int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.have[chunk] {
		return
	}
	a.have[chunk] = true
	if a.missing--; a.missing == 0 {
		a.start()
	}
}

// start puts the chunks together while readers go on.
func (a *assembly) start() {
	a.contents.background(func(ctx context.Context) {
		if err := a.join(ctx); err != nil && ctx.Err() == nil {
			a.r.o.Log.Warn("content stays in chunks", slog.String("content", a.id.String()), slog.Any("error", err))
		}
	})
}

func (a *assembly) join(ctx context.Context) error {
	f, err := a.contents.cache.Store(ctx, a.key, a.size, func(ctx context.Context, w cache.Writer) error {
		for _, c := range a.chunks {
			if err := a.copyChunk(ctx, w, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer f.Close()                                                    //nolint:errcheck // only its presence matters
	if name := cache.Chunked(a.compression, a.chunks); name != a.key { // for the tree tier
		if _, err := a.contents.cache.Alias(a.key, name); err != nil {
			return err
		}
	}
	if len(a.chunks) > 1 { // a single chunk is the content itself
		for _, c := range a.chunks {
			a.contents.cache.Drop(cache.Object(c.Hash, a.compression))
		}
	}
	return nil
}

func (a *assembly) copyChunk(ctx context.Context, w io.Writer, c catalog.Chunk) error {
	p, err := a.open(ctx, c, object.Partial)
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // read only
	_, err = io.Copy(w, io.NewSectionReader(p, 0, c.Size))
	return err
}
