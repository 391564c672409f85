package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/usage"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// Contents finds and opens contents by the SHA-256 of their bytes, through the
// objects tables of the trees in use, whichever repository they are of; those of
// directories that were compiled by the ID of what they are stored as, which is
// no content's SHA-256. The tables are mapped files; it holds no memory per
// content.
//
// A table says where to look, not what is true: nothing is handed out whose
// digest was not checked. All repositories share one cache.
type Contents struct {
	cache  *cache.Cache
	ledger *usage.Ledger

	// mu guards what follows; readers hold it while they look into mappings.
	// It is taken last: the cache asks names with its own locks held.
	mu     sync.RWMutex
	tables []*table
	closed bool

	// Promotions run one at a time and end with Close.
	ctx    context.Context //nolint:containedctx // of what outlives a call
	cancel context.CancelFunc
	slot   chan struct{}
	work   sync.WaitGroup
}

// NewContents returns the contents of no trees yet. From now on c evicts what
// trees in use name after everything else. The caller closes it before c.
func NewContents(c *cache.Cache) *Contents {
	s := &Contents{cache: c, ledger: usage.New(c), slot: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	c.Hold(s.names)
	return s
}

// Close lets go of all trees. Contents that are open stay usable, but fetch
// nothing more.
func (s *Contents) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
	s.ledger.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables {
		t.unmap()
	}
	s.tables = nil
}

// Use makes the contents of a tree findable until Drop. Uses add up.
func (s *Contents) Use(ctx context.Context, r *Repository, tree imagemeta.TreeID) error {
	if s.join(r, tree) {
		return nil
	}
	t, err := r.loadTable(ctx, tree)
	if err != nil {
		return err
	}
	s.add(t)
	return nil
}

// UseCompiled is Use for a directory that was compiled.
func (s *Contents) UseCompiled(ctx context.Context, c *Compiled) error {
	if s.join(c.repo, c.ID) {
		return nil
	}
	t, err := c.loadTable(ctx)
	if err != nil {
		return err
	}
	s.add(t)
	return nil
}

// Reuse is Use, or UseCompiled for the ID of a directory, if the table is in the
// cache. Otherwise it reports false and does nothing.
func (s *Contents) Reuse(ctx context.Context, r *Repository, tree imagemeta.TreeID, compiled bool) bool {
	if s.join(r, tree) {
		return true
	}
	t := &table{repo: r, tree: tree, compiled: compiled}
	f, ok := s.cache.Lookup(ctx, t.key())
	if !ok {
		return false
	}
	defer f.Close() //nolint:errcheck // the mapping stays
	if t.mapFile(f) != nil {
		return false
	}
	s.add(t)
	return true
}

func (s *Contents) add(t *table) {
	s.cache.Pin(t.key())
	if !s.insert(t) {
		s.cache.Unpin(t.key())
	}
}

// insert reports false if another was faster, whose table is used then.
func (s *Contents) insert(t *table) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.find(t.repo, t.tree); old != nil {
		old.users++
		t.unmap()
		return false
	}
	t.users, t.counted = 1, s.ledger.Add(t.tree, t.objects)
	s.tables = append(s.tables, t)
	return true
}

func (s *Contents) join(r *Repository, tree imagemeta.TreeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.find(r, tree)
	if t != nil {
		t.users++
	}
	return t != nil
}

// find is called with mu held.
func (s *Contents) find(r *Repository, tree imagemeta.TreeID) *table {
	for _, t := range s.tables {
		if t.repo == r && t.tree == tree {
			return t
		}
	}
	return nil
}

// Drop takes back one Use.
func (s *Contents) Drop(r *Repository, tree imagemeta.TreeID) {
	if t := s.leave(r, tree); t != nil {
		s.cache.Unpin(t.key())
	}
}

// leave returns the table that nobody uses any more.
func (s *Contents) leave(r *Repository, tree imagemeta.TreeID) *table {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, t := range s.tables {
		if t.repo != r || t.tree != tree {
			continue
		}
		if t.users--; t.users > 0 {
			return nil
		}
		s.tables = append(s.tables[:i:i], s.tables[i+1:]...)
		s.ledger.Remove(t.counted, t.unmap)
		return t
	}
	return nil
}

// Usage says what the cache's bytes are for, by the trees in use.
func (s *Contents) Usage(ctx context.Context) (usage.Totals, map[imagemeta.TreeID]usage.Tree, error) {
	return s.ledger.Usage(ctx)
}

// Covers reports, as [ErrInconsistent], a file among the entries of a tree in
// use whose content its table does not have, or not of that size.
func (s *Contents) Covers(r *Repository, tree imagemeta.TreeID, entries []imagemeta.Entry) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.find(r, tree)
	if t == nil {
		return fmt.Errorf("%w: tree %s is not in use", ErrInconsistent, tree)
	}
	for i := range entries {
		e := &entries[i]
		if !e.IsRegular() || e.Size == 0 {
			continue
		}
		if st, ok := t.objects.Lookup(e.Content); !ok || st.Size != e.Size {
			return fmt.Errorf("%w: the objects table of tree %s does not have %q as its listing does", ErrInconsistent, tree, e.Path)
		}
	}
	return nil
}

// names reports whether a tree in use has a content.
func (s *Contents) names(id object.ContentID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tables {
		if _, ok := t.objects.Lookup(id); ok {
			return true
		}
	}
	return false
}

// Trees returns the trees in use that have a content.
func (s *Contents) Trees(id object.ContentID) (list []imagemeta.TreeID) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tables {
		if _, ok := t.objects.Lookup(id); ok && !slices.Contains(list, t.tree) {
			list = append(list, t.tree)
		}
	}
	return list
}

// background runs f unless Close has been called; its context ends with that.
func (s *Contents) background(f func(context.Context)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return
	}
	s.work.Go(func() {
		select {
		case s.slot <- struct{}{}:
			defer func() { <-s.slot }()
			f(s.ctx)
		case <-s.ctx.Done():
		}
	})
}

// origin is where one repository keeps a content.
type origin struct {
	repo *Repository
	imagemeta.Stored
	compiled bool // it is found by the ID of what it is stored as
}

// key is what a content of that id is stored under. A table that lies about a
// content's digest is found out by the cache; those of directories are our own.
func (o *origin) key(id object.ContentID, chunks []catalog.Chunk) cache.Key {
	switch {
	case !o.compiled:
		return cache.Content(id)
	case len(o.Chunks) > 0:
		return cache.Chunked(o.Compression, chunks)
	}
	return cache.Object(o.Hash, o.Compression)
}

// origins returns a content's places, at most one for each repository: its
// signer says the same in all its tables or lies.
func (s *Contents) origins(id object.ContentID) (all []origin) {
	s.mu.RLock()
	defer s.mu.RUnlock()
next:
	for _, t := range s.tables {
		for i := range all {
			if all[i].repo == t.repo {
				continue next
			}
		}
		if st, ok := t.objects.Lookup(id); ok {
			all = append(all, origin{t.repo, st, t.compiled})
		}
	}
	return all
}

// Find returns the size in bytes of a content that a tree in use has; the error
// wraps fs.ErrNotExist if none does. Where repositories disagree, the content
// is fetched to see who is right.
func (s *Contents) Find(ctx context.Context, id object.ContentID) (int64, error) {
	all := s.origins(id)
	if len(all) == 0 {
		return 0, fmt.Errorf("content %s: %w: no tree in use has it", id, fs.ErrNotExist)
	}
	for _, o := range all[1:] {
		if o.Size == all[0].Size {
			continue
		}
		c, err := s.Open(ctx, id)
		if err != nil {
			return 0, err
		}
		return c.Size(), c.Close()
	}
	return all[0].Size, nil
}

// Open returns a content. One in one piece is in the cache when Open returns;
// of a chunked one, pieces are fetched when they are read, and when all are
// there they are made one file of the cache. The caller closes it.
func (s *Contents) Open(ctx context.Context, id object.ContentID) (view.Content, error) {
	if f, ok := s.cache.Lookup(ctx, cache.Name(id)); ok {
		p, err := newLocalPiece(f)
		if err != nil {
			return nil, err
		}
		return &whole{p, p.opened.Size}, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	errs := []error{fmt.Errorf("content %s", id)}
	for _, o := range s.origins(id) {
		c, err := s.openAt(ctx, id, o)
		if err == nil {
			return c, nil
		}
		errs = append(errs, o.repo.failed(ctx, err))
	}
	if len(errs) == 1 {
		return nil, fmt.Errorf("content %s: %w: no tree in use has it", id, ErrInconsistent)
	}
	return nil, errors.Join(errs...)
}

func (s *Contents) openAt(ctx context.Context, id object.ContentID, o origin) (view.Content, error) {
	o.repo.opens.Add(1)
	src := source{r: o.repo, from: o.repo.o.Fetcher, compression: o.Compression}
	switch {
	case o.Size == 0:
		return &whole{}, nil
	case len(o.Chunks) > 0:
		return s.assemble(src, id, o), nil
	}
	piece, err := src.openAs(ctx, o.key(id, nil), catalog.Chunk{Size: o.Size, Hash: o.Hash}, object.Bulk)
	if err != nil {
		return nil, err
	}
	if !o.compiled {
		// The tree tier looks for it under the object's name. That is worth no
		// failure.
		_, _ = s.cache.Alias(cache.Content(id), cache.Object(o.Hash, o.Compression))
	}
	return &whole{piece, o.Size}, nil
}
