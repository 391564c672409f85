package revision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// maxCatalog bounds the plain size of a catalog that is read back, in bytes.
// Stock CernVM-FS warns at 500,000 entries, which is about a tenth of this.
const maxCatalog = 2 << 30

// open is one catalog of the transaction. Children are opened only when an
// edit leads into them.
type open struct {
	mount    string // absolute path, "" for the root catalog
	w        *catalog.Writer
	file     string
	base     object.Hash // null for a catalog that is new in this revision
	number   uint64      // revision of base
	total    catalog.Counters
	parent   *open
	children map[string]*open
	dirty    bool
}

// load fetches the catalog hash into the work directory and opens it.
func (t *Tx) load(ctx context.Context, mount string, hash object.Hash, size int64, parent *open) (*open, error) {
	o := &open{mount: mount, file: t.temp(), base: hash, parent: parent, children: map[string]*open{}}
	if err := t.fetch(ctx, hash, size, o.file); err != nil {
		return nil, fmt.Errorf("catalog at %s: %w", display(mount), err)
	}
	var err error
	if o.w, err = catalog.OpenWriter(o.file); err != nil {
		return nil, fmt.Errorf("catalog at %s: %w", display(mount), err)
	}
	t.opened = append(t.opened, o)
	if o.number, err = number(o.w); err != nil {
		return nil, fmt.Errorf("catalog at %s: %w", display(mount), err)
	}
	o.total = o.w.Self().Add(o.w.Subtree())
	return o, nil
}

func (t *Tx) fetch(ctx context.Context, hash object.Hash, size int64, file string) (err error) {
	name := object.Path(hash, object.Catalog)
	src, err := t.store.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer src.Close()
	dst, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if size == 0 {
		size = -1
	}
	if _, err := codec.Decode(dst, src, codec.Expect{Hash: hash, Size: size, Limit: maxCatalog}); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// create starts the nested catalog at mount.
func (t *Tx) create(mount string, parent *open) (*open, error) {
	o := &open{mount: mount, file: t.temp(), parent: parent, children: map[string]*open{}, dirty: true}
	var err error
	if o.w, err = catalog.Create(o.file, catalog.CreateOptions{RootPrefix: mount}); err != nil {
		return nil, fmt.Errorf("catalog at %s: %w", mount, err)
	}
	t.opened = append(t.opened, o)
	return o, nil
}

// at returns the catalog that holds the rows below path, that is, the deepest
// one whose mountpoint is path or an ancestor of it. With above, a catalog
// mounted at path itself does not count: what is wanted is path's own row in
// its parent.
func (t *Tx) at(ctx context.Context, path string, above bool) (*open, error) {
	o := t.root
	for {
		next, err := t.into(ctx, o, path, above)
		if err != nil {
			return nil, err
		}
		if next == nil {
			return o, nil
		}
		o = next
	}
}

func (t *Tx) into(ctx context.Context, o *open, path string, above bool) (*open, error) {
	for mount, child := range o.children {
		if within(path, mount, above) {
			return child, nil
		}
	}
	nested, err := o.w.Nested()
	if err != nil {
		return nil, fmt.Errorf("catalog at %s: %w", display(o.mount), err)
	}
	for _, n := range nested {
		if !within(path, n.Path, above) {
			continue
		}
		child, err := t.load(ctx, n.Path, n.Hash, n.Size, o)
		if err != nil {
			return nil, err
		}
		o.children[n.Path] = child
		return child, nil
	}
	return nil, nil
}

// within reports whether path is mount or lies below it; with above, only
// whether it lies below.
func within(path, mount string, above bool) bool {
	if path == mount {
		return !above
	}
	return strings.HasPrefix(path, mount+"/")
}

// finish seals o and all below it, children first, and stores them.
func (t *Tx) finish(ctx context.Context, o *open) (catalog.Nested, error) {
	for mount, child := range o.children {
		if !child.dirty {
			continue
		}
		before := child.total
		n, err := t.finish(ctx, child)
		if err != nil {
			return catalog.Nested{}, err
		}
		if err := o.w.SetNested(n); err != nil {
			return catalog.Nested{}, fmt.Errorf("catalog at %s: link %s: %w", display(o.mount), mount, err)
		}
		o.w.AddSubtree(child.total.Sub(before))
	}
	self, subtree, err := o.w.Finish(catalog.Revision{Number: o.number + 1, Previous: o.base, LastModified: t.now})
	if err != nil {
		return catalog.Nested{}, fmt.Errorf("finish catalog at %s: %w", display(o.mount), err)
	}
	o.total = self.Add(subtree)
	hash, size, err := t.upload(ctx, o.file)
	if err != nil {
		return catalog.Nested{}, fmt.Errorf("store catalog at %s: %w", display(o.mount), err)
	}
	return catalog.Nested{Path: o.mount, Hash: hash, Size: size}, nil
}

// upload stores the finished database in file and removes it.
func (t *Tx) upload(ctx context.Context, file string) (object.Hash, int64, error) {
	plain, err := os.ReadFile(file)
	if err != nil {
		return object.Hash{}, 0, err
	}
	if err := os.Remove(file); err != nil {
		return object.Hash{}, 0, err
	}
	stored, err := codec.Encode(object.Zlib, nil, plain)
	if err != nil {
		return object.Hash{}, 0, err
	}
	hash := t.algorithm.Sum(stored)
	if err := t.store.Put(ctx, object.Path(hash, object.Catalog), stored); err != nil {
		return object.Hash{}, 0, err
	}
	return hash, int64(len(plain)), nil
}

// abandon closes and removes whatever finish has not.
func (t *Tx) abandon() {
	for _, o := range t.opened {
		o.w.Close() //nolint:errcheck // a temporary file nobody will read
	}
	os.RemoveAll(t.dir) //nolint:errcheck // likewise
}

func (t *Tx) temp() string {
	t.temps++
	return filepath.Join(t.dir, fmt.Sprintf("catalog-%d", t.temps))
}

func display(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

// number reads which revision of itself a catalog is.
func number(w *catalog.Writer) (uint64, error) {
	text, ok, err := w.Property("revision")
	if err != nil || !ok {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: revision: %w", catalog.ErrInvalid, err)
	}
	return n, nil
}
