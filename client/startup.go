package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/object"
)

// Where a repository keeps a tree's startup pack (docs/design/repository.md).
const (
	notesDir = "/.rootstock/notes/"
	packFile = "/startup.pack"
)

// Startup unpacks the startup pack of a tree in use: what is in it is in the
// cache when Startup returns. Order is told all contents that the tree's
// containers open, in order, before the first is unpacked. Only contents that
// the tree's table has are stored, each after its digest was checked. The error
// wraps fs.ErrNotExist if the repository has no pack of the tree.
func (s *Contents) Startup(ctx context.Context, r *Repository, tree imagemeta.TreeID, order func([]object.ContentID)) error {
	err := s.unpack(ctx, r, tree, order)
	if err != nil {
		return fmt.Errorf("startup pack of tree %s: %w", tree, err)
	}
	return nil
}

func (s *Contents) unpack(ctx context.Context, r *Repository, tree imagemeta.TreeID, order func([]object.ContentID)) error {
	hex := tree.String()
	n, _, err := r.Find(ctx, notesDir+hex[:2]+"/"+hex+packFile)
	if err != nil {
		return err
	}
	c, err := r.Open(ctx, n)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // read only
	err = profile.ReadPack(&contentReader{ctx: ctx, c: c}, c.Size(), func(ids []object.ContentID) {
		known := make([]object.ContentID, 0, len(ids))
		for _, id := range ids {
			if _, ok := s.stored(r, tree, id); ok {
				known = append(known, id)
			}
		}
		order(known)
	}, func(id object.ContentID, data []byte) error {
		st, ok := s.stored(r, tree, id)
		if !ok || st.Size != int64(len(data)) {
			return nil // somebody else's
		}
		err := s.cache.Ensure(ctx, cache.Content(id), st.Size, func(_ context.Context, w cache.Writer) error {
			_, err := w.Write(data)
			return err
		})
		if err == nil && len(st.Chunks) == 0 {
			// For the tree tier; worth no failure.
			_, _ = s.cache.Alias(cache.Content(id), cache.Object(st.Hash, st.Compression))
		}
		return err
	})
	if err != nil {
		return err
	}
	// Nobody needs it any more: what was in it has its own files now.
	return r.Files(ctx, n, func(f Found) error {
		for _, k := range f.Keys {
			s.cache.Drop(k)
		}
		return nil
	})
}

// stored returns where a tree in use has a content.
func (s *Contents) stored(r *Repository, tree imagemeta.TreeID, id object.ContentID) (imagemeta.Stored, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.find(r, tree)
	if t == nil {
		return imagemeta.Stored{}, false
	}
	return t.objects.Lookup(id)
}

// Fetch brings a content that a tree in use has into the cache, unless it is
// there, a piece at a time: pace is called with the bytes of each that is about
// to be read, and an error of it ends the fetching.
func (s *Contents) Fetch(ctx context.Context, id object.ContentID, pace func(bytes int64) error) error {
	if s.cache.Has(cache.Name(id)) {
		return nil
	}
	all := s.origins(id)
	if len(all) == 0 {
		return fmt.Errorf("content %s: %w: no tree in use has it", id, fs.ErrNotExist)
	}
	sizes := []int64{all[0].Size}
	if chunks := all[0].Chunks; len(chunks) > 0 {
		sizes = sizes[:0]
		for _, c := range chunks {
			sizes = append(sizes, c.Size)
		}
	} else if err := pace(all[0].Size); err != nil {
		return err
	}
	c, err := s.Open(ctx, id)
	if err != nil || len(all[0].Chunks) == 0 {
		return errors.Join(err, closed(c))
	}
	defer c.Close() //nolint:errcheck // read only
	// A byte of each piece brings the piece.
	off, one := int64(0), make([]byte, 1)
	for _, size := range sizes {
		if err := pace(size); err != nil {
			return err
		}
		if _, err := c.ReadAt(ctx, one, off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		off += size
	}
	return nil
}

func closed(c io.Closer) error {
	if c == nil {
		return nil
	}
	return c.Close()
}

// Lacking returns the contents of a tree in use that are not in the cache, of
// those from the from-th on of its table: at most most of them, and where to go
// on, which is -1 at the end.
func (s *Contents) Lacking(r *Repository, tree imagemeta.TreeID, from, most int) (lacking []object.ContentID, next int) {
	// The cache asks with its locks held what is in use, so it is not asked
	// with ours held.
	for next = from; next >= 0 && len(lacking) < most; {
		var some []object.ContentID
		some, next = s.some(r, tree, next, most-len(lacking))
		for _, id := range some {
			if id != object.EmptyContent && !s.cache.Has(cache.Name(id)) {
				lacking = append(lacking, id)
			}
		}
	}
	return lacking, next
}

func (s *Contents) some(r *Repository, tree imagemeta.TreeID, from, most int) (ids []object.ContentID, next int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.find(r, tree)
	if t == nil {
		return nil, -1
	}
	for next = from; next < t.objects.Len() && len(ids) < most; next++ {
		ids = append(ids, t.objects.At(next))
	}
	if next >= t.objects.Len() {
		next = -1
	}
	return ids, next
}

// Absent returns for each tree in use how many bytes of its contents are not in
// the cache, each content counted once for each tree that has it.
func (s *Contents) Absent(ctx context.Context) (map[imagemeta.TreeID]int64, error) {
	_, present, err := s.ledger.Usage(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	absent := map[imagemeta.TreeID]int64{}
	for _, t := range s.tables {
		p, ok := present[t.tree]
		if !ok {
			continue
		}
		absent[t.tree] = max(0, t.bytes()-p.Exclusive-p.Shared)
	}
	return absent, nil
}

// bytes is how many all contents have together. The table is readable.
func (t *table) bytes() int64 {
	if n := t.total.Load(); n > 0 {
		return n - 1
	}
	var n int64
	for _, st := range t.objects.All() {
		n += st.Size
	}
	if t.mapping != nil {
		// As when it was mapped: it need not count as our memory.
		_ = unix.Madvise(t.mapping, unix.MADV_DONTNEED)
	}
	t.total.Store(n + 1)
	return n
}
