// Package revision turns edits of paths into the next revision's catalogs.
//
// A [Tx] starts at a root catalog, loads the catalogs on the way to each path
// that is touched, and on Commit seals them bottom-up: children are stored and
// linked before their parents, counters flow upwards, and only what changed is
// written anew (CVMFS-FORMAT 5.5). Whoever calls it makes the result visible by
// signing a manifest that names the new root.
//
// Trees come ready-made from [Tx.BuildTree]: a tree is one nested catalog, or
// several where it is large (split.go), built in one go from its listing and
// never edited.
package revision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
)

var (
	// ErrExists reports a path that is there already.
	ErrExists = errors.New("already exists")
	// ErrNotDir reports a path whose parent is no directory.
	ErrNotDir = errors.New("not a directory")
)

// Marker is the name of the file every nested catalog must hold.
const Marker = ".cvmfscatalog"

// Store is what a transaction needs of a store.Store.
type Store interface {
	store.Getter
	// Put stores data under name. It must not keep data.
	Put(ctx context.Context, name string, data []byte) error
}

// Options say how a transaction writes.
type Options struct {
	Store     Store
	Algorithm object.Algorithm
	// Compression of the empty object the markers name. It must be stored.
	Compression object.Compression
	// TempDir takes the catalogs that are being edited.
	TempDir string
	// Now is the time new directories and the catalogs get.
	Now time.Time
	// MaxWeight is how many entries of a tree one catalog holds before sub
	// directories get catalogs of their own; 0 is [DefaultMaxWeight].
	MaxWeight int
}

// Root names the root catalog of a revision.
type Root struct {
	Hash   object.Hash
	Size   int64 // bytes, uncompressed
	Number uint64
}

// Tx is a transaction. It is for one goroutine; Close discards whatever
// Commit has not sealed.
type Tx struct {
	store     Store
	algorithm object.Algorithm
	marker    catalog.Entry
	dir       string
	now       int64
	weight    int // Options.MaxWeight
	root      *open
	opened    []*open
	temps     int
}

// Begin starts a transaction on base; the null Root starts an empty
// repository.
func Begin(ctx context.Context, base Root, o Options) (*Tx, error) {
	dir, err := os.MkdirTemp(o.TempDir, "rootstock-revision-")
	if err != nil {
		return nil, fmt.Errorf("begin revision: %w", err)
	}
	t := &Tx{store: o.Store, algorithm: o.Algorithm, dir: dir, now: o.Now.Unix(), weight: o.MaxWeight}
	if t.weight <= 0 {
		t.weight = DefaultMaxWeight
	}
	t.marker = catalog.Entry{
		Name: Marker, Mode: catalog.ModeRegular | 0o644, MTime: t.now, MTimeNS: catalog.NoNanoseconds,
		Flags: catalog.Hidden, Links: 1, Algorithm: o.Algorithm, Compression: o.Compression,
	}
	if t.marker.Hash, err = EmptyObject(o.Algorithm, o.Compression); err == nil {
		if base.Hash.IsZero() {
			err = t.empty()
		} else {
			t.root, err = t.load(ctx, "", base.Hash, base.Size, nil)
		}
	}
	if err != nil {
		t.abandon()
		return nil, fmt.Errorf("begin revision: %w", err)
	}
	return t, nil
}

// empty makes the first root catalog, as stock mkfs does (CVMFS-FORMAT 5.6).
func (t *Tx) empty() error {
	var err error
	if t.root, err = t.create("", nil); err != nil {
		return err
	}
	return t.root.w.Add("", t.directory(""))
}

// directory is the row of a new, empty directory of our own.
func (t *Tx) directory(name string) *catalog.Entry {
	return &catalog.Entry{
		Name: name, Mode: catalog.ModeDir | 0o755, Size: 4096, Links: 2,
		MTime: t.now, MTimeNS: catalog.NoNanoseconds,
	}
}

// Lookup returns the row of path, or ok false where nothing is.
func (t *Tx) Lookup(ctx context.Context, path string) (e catalog.Entry, ok bool, err error) {
	o, err := t.at(ctx, path, true)
	if err != nil {
		return e, false, err
	}
	if e, ok, err = o.w.Lookup(path); err != nil {
		return e, false, fmt.Errorf("look up %s: %w", display(path), err)
	}
	return e, ok, nil
}

// List returns the rows of the directory path.
func (t *Tx) List(ctx context.Context, path string) ([]catalog.Entry, error) {
	o, err := t.at(ctx, path, false)
	if err != nil {
		return nil, err
	}
	l, err := o.w.List(path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", display(path), err)
	}
	return l, nil
}

// MkdirAll makes path and its missing parents, 0755 and owned by root. The
// directories in nested become, when they are made, nested catalogs.
func (t *Tx) MkdirAll(ctx context.Context, path string, nested ...string) error {
	if path == "" {
		return nil
	}
	e, ok, err := t.Lookup(ctx, path)
	if err != nil {
		return err
	}
	if ok {
		if !e.IsDir() {
			return fmt.Errorf("make %s: %w", path, ErrNotDir)
		}
		return nil
	}
	if err := t.MkdirAll(ctx, catalog.Parent(path), nested...); err != nil {
		return err
	}
	dir := t.directory(base(path))
	for _, n := range nested {
		if n == path {
			return t.mknested(ctx, path, dir)
		}
	}
	return t.Add(ctx, path, dir)
}

// mknested adds the directory path as a nested catalog of its own, with the
// hidden marker.
func (t *Tx) mknested(ctx context.Context, path string, dir *catalog.Entry) error {
	dir.Flags = catalog.NestedMountpoint
	if err := t.Add(ctx, path, dir); err != nil {
		return err
	}
	parent, err := t.at(ctx, path, true)
	if err != nil {
		return err
	}
	child, err := t.create(path, parent)
	if err != nil {
		return err
	}
	root := *dir
	root.Flags = catalog.NestedRoot
	if err := child.w.Add(path, &root); err != nil {
		return fmt.Errorf("add %s: %w", path, err)
	}
	if err := child.w.Add(path+"/"+Marker, &t.marker); err != nil {
		return fmt.Errorf("add %s: %w", path, err)
	}
	parent.children[path] = child
	return nil
}

// Add puts e at path, whose parent must be a directory.
func (t *Tx) Add(ctx context.Context, path string, e *catalog.Entry) error {
	parent := catalog.Parent(path)
	dir, ok, err := t.Lookup(ctx, parent)
	if err != nil {
		return err
	}
	if !ok || !dir.IsDir() {
		return fmt.Errorf("add %s: %s: %w", path, display(parent), ErrNotDir)
	}
	if _, ok, err := t.Lookup(ctx, path); err != nil {
		return err
	} else if ok {
		return fmt.Errorf("add %s: %w", path, ErrExists)
	}
	o, err := t.at(ctx, path, true)
	if err != nil {
		return err
	}
	t.touch(o)
	if err := o.w.Add(path, e); err != nil {
		return fmt.Errorf("add %s: %w", path, err)
	}
	if e.IsDir() {
		return t.relink(ctx, parent, 1)
	}
	return nil
}

// Mount attaches the ready-made nested catalog of a tree at path.
func (t *Tx) Mount(ctx context.Context, path string, tree Tree) error {
	row := tree.Root
	row.Name = base(path)
	row.Flags = catalog.NestedMountpoint
	if err := t.Add(ctx, path, &row); err != nil {
		return err
	}
	o, err := t.at(ctx, path, true)
	if err != nil {
		return err
	}
	if err := o.w.SetNested(catalog.Nested{Path: path, Hash: tree.Hash, Size: tree.Size}); err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	o.w.AddSubtree(tree.Total)
	return nil
}

// AddFile puts a regular file of our own at path, 0644 and owned by root.
func (t *Tx) AddFile(ctx context.Context, path string, content imagemeta.Stored) error {
	e := t.own(path, catalog.ModeRegular|0o644)
	e.Size = content.Size
	setContent(e, content)
	return t.Add(ctx, path, e)
}

// Symlink puts a symbolic link at path.
func (t *Tx) Symlink(ctx context.Context, path, target string) error {
	e := t.own(path, catalog.ModeSymlink|0o777)
	e.Symlink, e.Size = target, int64(len(target))
	return t.Add(ctx, path, e)
}

// own is the row of something of ours that is no directory.
func (t *Tx) own(path string, mode uint32) *catalog.Entry {
	return &catalog.Entry{Name: base(path), Mode: mode, Links: 1, MTime: t.now, MTimeNS: catalog.NoNanoseconds}
}

// Remove takes away what is at path and, if that is a directory, all below it.
// A path that is not there is no error. The repository's root stays.
func (t *Tx) Remove(ctx context.Context, path string) error {
	e, ok, err := t.Lookup(ctx, path)
	if err != nil || !ok || path == "" {
		return err
	}
	o, err := t.at(ctx, path, true)
	if err != nil {
		return err
	}
	switch {
	case e.Flags&catalog.NestedMountpoint != 0:
		err = t.unmount(ctx, o, path)
	case e.IsDir():
		err = t.empties(ctx, path)
	}
	if err != nil {
		return err
	}
	t.touch(o)
	if err := o.w.Remove(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	if e.IsDir() {
		return t.relink(ctx, catalog.Parent(path), -1)
	}
	return nil
}

// empties removes everything in the ordinary directory path.
func (t *Tx) empties(ctx context.Context, path string) error {
	list, err := t.List(ctx, path)
	if err != nil {
		return err
	}
	for i := range list {
		if err := t.Remove(ctx, path+"/"+list[i].Name); err != nil {
			return err
		}
	}
	return nil
}

// unmount forgets the nested catalog at path, which o links to, with all that
// is nested in it.
func (t *Tx) unmount(ctx context.Context, o *open, path string) error {
	child, err := t.at(ctx, path, false)
	if err != nil {
		return err
	}
	delete(o.children, path)
	if child.base.IsZero() {
		return nil // made in this transaction: its parent was not told yet
	}
	o.w.AddSubtree(catalog.Counters{}.Sub(child.total))
	if err := o.w.RemoveNested(path); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// relink changes the link count of the directory path, in both rows if a
// nested catalog is mounted there.
func (t *Tx) relink(ctx context.Context, path string, by int) error {
	o, err := t.at(ctx, path, false)
	if err != nil {
		return err
	}
	if err := t.bump(o, path, by); err != nil {
		return err
	}
	if o.mount == path && o.parent != nil {
		return t.bump(o.parent, path, by)
	}
	return nil
}

func (t *Tx) bump(o *open, path string, by int) error {
	e, ok, err := o.w.Lookup(path)
	if err != nil {
		return fmt.Errorf("link count of %s: %w", display(path), err)
	}
	if !ok {
		return fmt.Errorf("link count of %s: %w: no row in the catalog at %s", display(path), catalog.ErrInvalid, display(o.mount))
	}
	e.Links = uint32(int(e.Links) + by) // #nosec G115 -- a count of sub directories
	t.touch(o)
	if err := o.w.Replace(path, &e); err != nil {
		return fmt.Errorf("link count of %s: %w", display(path), err)
	}
	return nil
}

// touch marks o and all above it for the next revision.
func (t *Tx) touch(o *open) {
	for ; o != nil; o = o.parent {
		o.dirty = true
	}
}

// Succeed makes the transaction's result the successor of head instead of the
// revision it began with: that is a rollback, which shows an old root catalog
// under a new number (CVMFS-FORMAT 3.2).
func (t *Tx) Succeed(head Root) {
	t.root.number, t.root.base = head.Number, head.Hash
	t.touch(t.root)
}

// Commit seals the transaction and returns the new root. The root catalog is
// always written, so every commit makes a revision.
func (t *Tx) Commit(ctx context.Context) (Root, error) {
	n, err := t.finish(ctx, t.root)
	if err != nil {
		return Root{}, fmt.Errorf("commit revision: %w", err)
	}
	return Root{Hash: n.Hash, Size: n.Size, Number: t.root.number + 1}, nil
}

// Close ends the transaction and removes its temporary files.
func (t *Tx) Close() error {
	t.abandon()
	return nil
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
