package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// Open returns the content of a regular file; the caller closes it. A file in
// one piece is in the cache when Open returns; of a chunked one, pieces are
// fetched when they are read.
func (r *Repository) Open(ctx context.Context, n view.Node) (view.Content, error) {
	if isVirtual(n) {
		return nil, view.ErrInvalid
	}
	p, err := r.at(ctx, n)
	if err != nil {
		return nil, err
	}
	defer p.release()
	st := p.stat()
	if st.Mode&catalog.ModeType != catalog.ModeRegular {
		return nil, view.ErrInvalid
	}
	r.opens.Add(1)
	s := source{r: r, from: r.o.Fetcher, compression: st.Compression}
	if st.Flags&catalog.External != 0 {
		name := p.path()
		if r.o.External == nil {
			return nil, r.failed(ctx, fmt.Errorf("%w: %s: no address for external files is configured", ErrExternal, name))
		}
		s.from, s.external = r.o.External, name
	}
	if st.Flags&catalog.Chunked != 0 {
		c := &chunked{source: s, size: st.Size, chunks: p.index.Chunks(p.row)}
		if f, ok := r.o.Cache.Lookup(ctx, cache.Chunked(st.Compression, c.chunks)); ok {
			piece, err := newLocalPiece(f)
			if err != nil {
				return nil, r.failed(ctx, err)
			}
			return &whole{piece, st.Size}, nil
		}
		return c, nil
	}
	if st.Size == 0 {
		return &whole{}, nil // the catalog has said it all
	}
	piece, err := s.open(ctx, catalog.Chunk{Size: st.Size, Hash: p.index.Hash(p.row)}, object.Bulk)
	if err != nil {
		return nil, r.failed(ctx, err)
	}
	return &whole{piece, st.Size}, nil
}

// Digest returns the SHA-256 of a regular file's bytes if the cache has the
// file in one piece; the catalog does not know it.
func (r *Repository) Digest(ctx context.Context, n view.Node) (object.ContentID, bool) {
	if isVirtual(n) {
		return object.ContentID{}, false
	}
	p, err := r.at(ctx, n)
	if err != nil {
		return object.ContentID{}, false
	}
	defer p.release()
	st := p.stat()
	if st.Mode&catalog.ModeType != catalog.ModeRegular || st.Flags&catalog.External != 0 || st.Size == 0 {
		return object.ContentID{}, false
	}
	k := cache.Object(p.index.Hash(p.row), st.Compression)
	if st.Flags&catalog.Chunked != 0 {
		k = cache.Chunked(st.Compression, p.index.Chunks(p.row))
	}
	return r.o.Cache.Digest(k)
}

// source is where the objects of one file come from.
type source struct {
	r           *Repository
	from        fetch.Fetcher
	compression object.Compression
	external    string // the path of an external file, else empty
}

// piece is a content or a part of one, on disk or in memory.
type piece interface {
	io.ReaderAt
	io.Closer
}

// localPiece is a cached file, and what it was like when it was opened.
type localPiece struct {
	*os.File
	opened unix.Stat_t
}

func newLocalPiece(f *os.File) (*localPiece, error) {
	p := &localPiece{File: f}
	if err := unix.Fstat(int(f.Fd()), &p.opened); err != nil {
		f.Close() //nolint:errcheck // read only
		return nil, fmt.Errorf("cached file: %w", err)
	}
	return p, nil
}

// intact is false for a file that was written to, however its times were set
// afterwards. One that was evicted is as good as before; being given another
// name costs opening it anew.
func (p *localPiece) intact() bool {
	var now unix.Stat_t
	if unix.Fstat(int(p.Fd()), &now) != nil || now.Size != p.opened.Size || now.Mtim != p.opened.Mtim {
		return false
	}
	return now.Ctim == p.opened.Ctim || now.Nlink == 0
}

type memoryPiece struct{ *bytes.Reader }

func (memoryPiece) Close() error { return nil }

// open returns an object's content out of the cache, fetching it if need be.
// When the disk does not take it, it is served from memory.
func (s *source) open(ctx context.Context, c catalog.Chunk, t object.Type) (piece, error) {
	return s.openAs(ctx, cache.Object(c.Hash, s.compression), c, t)
}

// openAs is open for content that has the name k in the cache.
func (s *source) openAs(ctx context.Context, k cache.Key, c catalog.Chunk, t object.Type) (piece, error) {
	if c.Hash.IsZero() {
		return nil, fmt.Errorf("%w: a file without a hash", ErrInconsistent)
	}
	if s.r.unstored.Load() {
		// Not the disk again for each piece that is read.
		if data, ok := s.r.o.Cache.Held(k); ok && int64(len(data)) == c.Size {
			return memoryPiece{bytes.NewReader(data)}, nil
		}
	}
	fill := func(ctx context.Context, w cache.Writer) error { return s.fetch(ctx, c, t, w) }
	f, err := s.r.o.Cache.Store(ctx, k, c.Size, fill)
	switch {
	case err == nil:
		if s.r.unstored.CompareAndSwap(true, false) {
			s.r.o.Log.Info("cache stores again", "repository", s.r.o.Name)
		}
		return s.sized(f, c)
	case !errors.Is(err, cache.ErrCannotStore):
		return nil, err
	}
	if s.r.unstored.CompareAndSwap(false, true) {
		s.r.o.Log.Warn("cache does not store, serving from memory", "repository", s.r.o.Name, "cause", err)
	}
	data, err := s.r.o.Cache.Memory(ctx, k, c.Size, fill)
	if err != nil {
		return nil, err
	}
	return memoryPiece{bytes.NewReader(data)}, nil
}

// sized refuses an object that another row said is of another size.
func (s *source) sized(f *os.File, c catalog.Chunk) (piece, error) {
	p, err := newLocalPiece(f)
	if err != nil {
		return nil, err
	}
	if p.opened.Size != c.Size {
		f.Close() //nolint:errcheck // read only
		return nil, fmt.Errorf("%w: object %s has %d bytes, not %d", ErrInconsistent, c.Hash, p.opened.Size, c.Size)
	}
	return p, nil
}

func (s *source) fetch(ctx context.Context, c catalog.Chunk, t object.Type, w cache.Writer) error {
	want := codec.Expect{Hash: c.Hash, Compression: s.compression, Size: c.Size}
	if s.external == "" {
		return fetch.Object(ctx, s.from, t, want, w)
	}
	o := fetch.Options{}
	if t == object.Partial {
		o.Offset, o.Length = c.Offset, c.Size
	}
	return fetch.Verified(ctx, s.from, s.external[1:], o, want, w)
}

// Intact reports whether a content that was put aside is still what was opened.
// Only what is local can change behind our back.
func (w *whole) Intact() bool {
	f, ok := w.piece.(*localPiece)
	return !ok || f.intact()
}

// whole is a content in one piece, which is here already. The piece is nil for
// an empty one.
type whole struct {
	piece piece
	size  int64
}

func (w *whole) Size() int64 { return w.size }

func (w *whole) Close() error {
	if w.piece == nil {
		return nil
	}
	return w.piece.Close()
}

func (w *whole) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if w.piece == nil {
		return 0, io.EOF
	}
	return w.piece.ReadAt(p, off)
}

// chunked is a content in pieces, each found by its offset and fetched when it
// is first read. Compiling the catalog has proved that the pieces tile.
type chunked struct {
	source
	size   int64
	chunks []catalog.Chunk
	seen   func(chunk int) // is told of each chunk that was read; may be nil
}

func (c *chunked) Size() int64 { return c.size }

func (c *chunked) Close() error { return nil }

func (c *chunked) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, view.ErrInvalid
	}
	n := 0
	for n < len(p) && off < c.size {
		m, err := c.readChunk(ctx, p[n:], off)
		n, off = n+m, off+int64(m)
		if err != nil {
			return n, c.r.failed(ctx, err)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readChunk reads from the chunk that holds off, at most to its end.
func (c *chunked) readChunk(ctx context.Context, p []byte, off int64) (int, error) {
	at, found := slices.BinarySearchFunc(c.chunks, off, func(x catalog.Chunk, off int64) int {
		switch {
		case off < x.Offset:
			return 1
		case off >= x.Offset+x.Size:
			return -1
		}
		return 0
	})
	if !found {
		return 0, fmt.Errorf("%w: no chunk at %d", ErrInconsistent, off)
	}
	chunk := c.chunks[at]
	f, err := c.open(ctx, chunk, object.Partial)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	within := off - chunk.Offset
	p = p[:min(int64(len(p)), chunk.Size-within)]
	n, err := f.ReadAt(p, within)
	if n == len(p) {
		err = nil
	} else if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && c.seen != nil {
		c.seen(at)
	}
	return n, err
}
