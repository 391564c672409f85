package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/usage"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/imagemeta"
)

// Where a repository keeps what it says about its trees
// (docs/design/repository.md).
const (
	treesDir    = "/.rootstock/trees/"
	listingFile = "/listing"
	objectsFile = "/objects"
)

// maxTable bounds an objects table, in bytes. It fits imagemeta.DefaultLimits.
const maxTable = 1 << 30

func treeFile(id imagemeta.TreeID, name string) string {
	hex := id.String()
	return treesDir + hex[:2] + "/" + hex + name
}

// Listing returns the entries of a tree that the repository has, after their
// listing's digest has proved to be the tree's id. It wraps fs.ErrNotExist for
// a tree without a listing, and imagemeta's errors for one that is not right.
func (r *Repository) Listing(ctx context.Context, id imagemeta.TreeID) ([]imagemeta.Entry, error) {
	entries, err := r.listing(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("listing of tree %s: %w", id, err)
	}
	return entries, nil
}

func (r *Repository) listing(ctx context.Context, id imagemeta.TreeID) ([]imagemeta.Entry, error) {
	c, err := r.openPath(ctx, treeFile(id, listingFile))
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // read only
	entries, got, err := imagemeta.Decode(&contentReader{ctx: ctx, c: c}, imagemeta.DefaultLimits)
	if err != nil {
		return nil, err
	}
	if got != id {
		return nil, fmt.Errorf("%w: it is %s", imagemeta.ErrMismatch, got)
	}
	return entries, nil
}

func (r *Repository) openPath(ctx context.Context, path string) (view.Content, error) {
	n, _, err := r.Find(ctx, path)
	if err != nil {
		return nil, err
	}
	return r.Open(ctx, n)
}

// contentReader reads a content from front to back.
type contentReader struct {
	ctx context.Context //nolint:containedctx // an io.Reader has no place for it
	c   view.Content
	off int64
}

func (r *contentReader) Read(p []byte) (int, error) {
	n, err := r.c.ReadAt(r.ctx, p, r.off)
	r.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// table is a tree's objects table as one repository has it.
type table struct {
	repo    *Repository
	tree    imagemeta.TreeID
	objects *imagemeta.Objects
	mapping []byte // nil if it is in memory
	// compiled says that it names contents by what they are stored as.
	compiled bool
	users    int // guarded by Contents.mu
	counted  *usage.Counted
	total    atomic.Int64 // see bytes; one more than it, 0 while unknown
}

func (t *table) key() cache.Key { return cache.Table(t.repo.o.Name, t.tree) }

// loadTable maps a tree's objects table out of the cache, fetching it if need
// be. A table that was seen once is found in the cache also when the repository
// no longer has the tree.
func (r *Repository) loadTable(ctx context.Context, id imagemeta.TreeID) (*table, error) {
	t := &table{repo: r, tree: id}
	f, err := t.file(ctx)
	if err == nil {
		defer f.Close() //nolint:errcheck // the mapping stays
		err = t.mapFile(f)
	} else if errors.Is(err, cache.ErrCannotStore) {
		err = t.read(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("objects table of tree %s: %w", id, err)
	}
	return t, nil
}

func (t *table) file(ctx context.Context) (*os.File, error) {
	c := t.repo.o.Cache
	for range 2 {
		if f, ok := c.Lookup(ctx, t.key()); ok {
			return f, nil
		}
		if named, err := t.repo.nameTable(ctx, t); err != nil {
			return nil, err
		} else if !named {
			break
		}
	}
	return c.StorePath(ctx, t.key(), func(ctx context.Context, path string) error { return t.repo.copyTable(ctx, t.tree, path) })
}

// nameTable fetches a table and gives its content the table's name. It reports
// false for one in pieces, which has to be copied.
func (r *Repository) nameTable(ctx context.Context, t *table) (bool, error) {
	n, _, err := r.Find(ctx, treeFile(t.tree, objectsFile))
	if err != nil {
		return false, err
	}
	p, err := r.at(ctx, n)
	if err != nil {
		return false, err
	}
	st, hash := p.stat(), p.index.Hash(p.row)
	p.release()
	if st.Flags&(catalog.Chunked|catalog.External) != 0 || st.Size > maxTable {
		return false, nil
	}
	c, err := r.Open(ctx, n)
	if err != nil {
		return false, err
	}
	defer c.Close() //nolint:errcheck // read only
	return r.o.Cache.Alias(cache.Object(hash, st.Compression), t.key())
}

func (r *Repository) copyTable(ctx context.Context, id imagemeta.TreeID, path string) error {
	c, err := r.openTable(ctx, id)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // read only
	to, err := newFileSink(path)
	if err != nil {
		return fmt.Errorf("%w: %w", cache.ErrCannotStore, err)
	}
	_, err = io.Copy(to, &contentReader{ctx: ctx, c: c})
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	return err
}

func (r *Repository) openTable(ctx context.Context, id imagemeta.TreeID) (view.Content, error) {
	c, err := r.openPath(ctx, treeFile(id, objectsFile))
	if err != nil {
		return nil, err
	}
	if c.Size() > maxTable {
		c.Close() //nolint:errcheck // read only
		return nil, fmt.Errorf("%w: %d bytes", imagemeta.ErrTooLarge, c.Size())
	}
	return c, nil
}

func (t *table) mapFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size == 0 || size > maxTable {
		return fmt.Errorf("%w: %d bytes", imagemeta.ErrInvalid, size)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	if t.objects, err = imagemeta.OpenObjects(b); err != nil {
		return errors.Join(err, unix.Munmap(b))
	}
	// Checking it has touched all of it; what is looked up comes back by
	// itself, and the rest need not count as this process's memory.
	_ = unix.Madvise(b, unix.MADV_DONTNEED)
	t.mapping = b
	return nil
}

// read keeps a table in memory that the disk does not take.
func (t *table) read(ctx context.Context) error {
	c, err := t.repo.openTable(ctx, t.tree)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(&contentReader{ctx: ctx, c: c})
	if err != nil {
		return err
	}
	t.objects, err = imagemeta.OpenObjects(b)
	return err
}

// loadTable is [Repository.loadTable] for a directory.
func (c *Compiled) loadTable(ctx context.Context) (*table, error) {
	t := &table{repo: c.repo, tree: c.ID, compiled: true}
	f, err := c.repo.o.Cache.StorePath(ctx, t.key(), func(ctx context.Context, path string) error {
		w, err := c.walk(ctx)
		if err != nil {
			return err
		}
		to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- our own directory
		if err != nil {
			return fmt.Errorf("%w: %w", cache.ErrCannotStore, err)
		}
		return errors.Join(imagemeta.EncodeObjects(to, w.objects), to.Close())
	})
	if err == nil {
		defer f.Close() //nolint:errcheck // the mapping stays
		err = t.mapFile(f)
	} else if errors.Is(err, cache.ErrCannotStore) {
		err = t.encode(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("objects of %q of catalog %s: %w", c.Path+"/", c.Catalog, err)
	}
	return t, nil
}

// encode keeps a directory's table in memory.
func (t *table) encode(ctx context.Context, c *Compiled) error {
	w, err := c.walk(ctx)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := imagemeta.EncodeObjects(&b, w.objects); err != nil {
		return err
	}
	t.objects, err = imagemeta.OpenObjects(b.Bytes())
	return err
}

func (t *table) unmap() {
	if t.mapping != nil {
		unix.Munmap(t.mapping) //nolint:errcheck // an address that was mapped can be unmapped
	}
}

// Absence is what of a tree's contents a cache has, in bytes, each once.
type Absence struct {
	Bytes    int64 // of all contents
	Absent   int64 // of those that are not in the cache
	Contents int   // that are not in the cache
}

// Absent looks what the cache lacks of a tree. It fetches the tree's objects
// table if need be, and wraps fs.ErrNotExist if there is none.
func (r *Repository) Absent(ctx context.Context, id imagemeta.TreeID) (a Absence, err error) {
	t, err := r.loadTable(ctx, id)
	if err != nil {
		return a, err
	}
	defer t.unmap()
	for content, st := range t.objects.All() {
		a.Bytes += st.Size
		if st.Size > 0 && !r.o.Cache.Has(cache.Content(content)) {
			a.Absent += st.Size
			a.Contents++
		}
	}
	return a, nil
}
