package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// cat is a catalog by its hash, attached or not.
type cat struct {
	hash object.Hash
	size atomic.Int64 // bytes of its database, 0 while unknown
	live atomic.Pointer[attached]
	used atomic.Int64 // when, in attachments
}

// attached is a mapped index. It stays mapped while anybody uses it.
type attached struct {
	index *catalog.Index
	refs  atomic.Int32 // users, and one for being attached
}

// acquire returns the index if it is attached; the caller releases it.
func (c *cat) acquire(now int64) *attached {
	for {
		a := c.live.Load()
		if a == nil {
			return nil
		}
		n := a.refs.Load()
		if n == 0 {
			return nil // being detached
		}
		if a.refs.CompareAndSwap(n, n+1) {
			if c.used.Load() != now {
				c.used.Store(now)
			}
			return a
		}
	}
}

func (a *attached) release() {
	if a.refs.Add(-1) == 0 {
		a.index.Close() //nolint:errcheck // an address that was mapped can be unmapped
	}
}

// catalogs are all that were ever heard of, and the few that are mapped. Its mu
// comes before the cache's locks.
type catalogs struct {
	r     *Repository
	clock atomic.Int64 // counts attachments

	mu     sync.Mutex
	byHash map[object.Hash]*cat
	mapped []*cat
}

func (c *catalogs) init(r *Repository) {
	c.r, c.byHash = r, map[object.Hash]*cat{}
}

// of returns the catalog of a hash. size is what its parent or the manifest
// says about its database, 0 if nothing.
func (c *catalogs) of(h object.Hash, size int64) *cat {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, ok := c.byHash[h]
	if !ok {
		x = &cat{hash: h}
		c.byHash[h] = x
	}
	if size > 0 {
		x.size.CompareAndSwap(0, size)
	}
	return x
}

// all returns those that are mapped now.
func (c *catalogs) all() []*cat {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mapped)
}

func (c *catalogs) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mapped)
}

// use returns the index of a slot's catalog, loading it if need be. The caller
// releases it.
func (r *Repository) use(ctx context.Context, s *slot) (*attached, error) {
	a := s.cat.acquire(r.catalogs.clock.Load())
	if a == nil {
		var err error
		if a, err = r.attach(ctx, s.cat); err != nil {
			return nil, fmt.Errorf("catalog %s at %q: %w", s.cat.hash, s.mount+"/", err)
		}
	}
	if !s.sound.Load() {
		if got := a.index.RootPrefix(); !s.any && got != s.prefix {
			a.release()
			return nil, fmt.Errorf("%w: catalog %s at %q says it belongs at %q", ErrInconsistent, s.cat.hash, s.prefix, got)
		}
		s.sound.Store(true)
	}
	return a, nil
}

// attach maps a catalog's index, out of the cache or compiled from the
// fetched database. Concurrent callers do the work once.
func (r *Repository) attach(ctx context.Context, c *cat) (*attached, error) {
	key := cache.Index(c.hash)
	for retry := range 2 {
		f, err := r.o.Cache.StorePath(ctx, key, func(ctx context.Context, path string) error { return r.compile(ctx, c, path) })
		if err != nil {
			return nil, err
		}
		// By descriptor: the name may be evicted this moment.
		x, err := catalog.OpenIndex(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		f.Close() //nolint:errcheck // the mapping stays
		if err == nil {
			return r.catalogs.add(c, x), nil
		}
		if retry > 0 || !errors.Is(err, catalog.ErrInvalid) {
			return nil, err
		}
		// Written by another version of this program.
		r.o.Cache.Remove(key)
	}
	return nil, fmt.Errorf("%w: index cannot be used", catalog.ErrInvalid)
}

// compile makes a catalog's index at path.
func (r *Repository) compile(ctx context.Context, c *cat, path string) error {
	db := filepath.Join(filepath.Dir(path), "db")
	sink, err := newFileSink(db)
	if err != nil {
		return fmt.Errorf("%w: %w", cache.ErrCannotStore, err)
	}
	defer os.Remove(db) //nolint:errcheck // goes with its directory at the latest
	err = r.fetchCatalog(ctx, c, sink)
	if cerr := sink.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	reader, err := catalog.OpenReader(db)
	if err != nil {
		return err
	}
	if members := reader.Properties()["voms_authz"]; members != "" {
		err = fmt.Errorf("%w: it is for members of %q only, which this client cannot tell; mount it with the CernVM-FS client and its authorization helper", ErrRestricted, members)
	} else {
		err = catalog.Compile(ctx, reader, path)
	}
	if cerr := reader.Close(); err == nil {
		err = cerr
	}
	return err
}

func (r *Repository) fetchCatalog(ctx context.Context, c *cat, sink fetch.Sink) error {
	size := c.size.Load()
	if size > r.o.MaxCatalog {
		return fmt.Errorf("%w: a database of %d bytes, more than the %d allowed", ErrInconsistent, size, r.o.MaxCatalog)
	}
	want := codec.Expect{Hash: c.hash, Compression: object.Zlib, Size: size}
	if size == 0 {
		want.Size, want.Limit = -1, r.o.MaxCatalog
	}
	return r.fetchMeta(ctx, object.Catalog, want, sink)
}

// add makes x the index of c, unless another has won, and detaches the least
// recently used one when there are too many.
func (c *catalogs) add(x *cat, index *catalog.Index) *attached {
	now := c.clock.Add(1)
	c.mu.Lock()
	if a := x.acquire(now); a != nil {
		c.mu.Unlock()
		index.Close() //nolint:errcheck // see release
		return a
	}
	a := &attached{index: index}
	a.refs.Store(2)
	x.used.Store(now)
	x.live.Store(a)
	c.mapped = append(c.mapped, x)
	c.r.o.Cache.Pin(cache.Index(x.hash))
	var gone []*attached
	for len(c.mapped) > c.r.o.MaxCatalogs {
		gone = append(gone, c.detachOldest())
	}
	c.mu.Unlock()
	for _, a := range gone {
		if a != nil {
			a.release()
		}
	}
	return a
}

// detachOldest is called with mu held.
func (c *catalogs) detachOldest() *attached {
	oldest, at := int64(math.MaxInt64), 0
	for i, x := range c.mapped {
		if used := x.used.Load(); used < oldest {
			oldest, at = used, i
		}
	}
	return c.detach(at)
}

// detach is called with mu held.
func (c *catalogs) detach(at int) *attached {
	x := c.mapped[at]
	c.mapped = append(c.mapped[:at], c.mapped[at+1:]...)
	c.r.o.Cache.Unpin(cache.Index(x.hash))
	return x.live.Swap(nil)
}

// checkCatalogs detaches the indexes whose files were changed on disk, so that
// the next use fetches and compiles them again. It stats a few files.
func (r *Repository) checkCatalogs() {
	for _, x := range r.catalogs.all() {
		if r.o.Cache.Changed(cache.Index(x.hash)) {
			r.Forget(x.hash)
		}
	}
}

// Forget detaches a catalog's index if it is mapped; what was found damaged in
// the cache is then fetched again when it is needed. Nodes stay valid.
func (r *Repository) Forget(h object.Hash) {
	c := &r.catalogs
	c.mu.Lock()
	var gone *attached
	for i, x := range c.mapped {
		if x.hash == h {
			gone = c.detach(i)
			break
		}
	}
	c.mu.Unlock()
	if gone != nil {
		r.o.Log.Warn("a catalog's index was changed on disk and is made again", "repository", r.o.Name, "catalog", h.String())
		gone.release()
	}
}

func (c *catalogs) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.mapped) > 0 {
		if a := c.detachOldest(); a != nil {
			a.release()
		}
	}
}
