package revision_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/store/local"
)

type repo struct {
	t    *testing.T
	o    revision.Options
	root revision.Root
}

func newRepo(t *testing.T) *repo {
	st, err := local.Create(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return &repo{t: t, o: revision.Options{
		Store: st, Algorithm: object.SHA1, Compression: object.Zlib, TempDir: t.TempDir(), Now: time.Unix(1700000000, 0),
	}}
}

// edit commits what fn does as the next revision.
func (r *repo) edit(fn func(*revision.Tx)) {
	r.t.Helper()
	tx, err := revision.Begin(r.t.Context(), r.root, r.o)
	if err != nil {
		r.t.Fatal(err)
	}
	defer tx.Close()
	fn(tx)
	if r.root, err = tx.Commit(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repo) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// read returns every row of the repository by path, from all catalogs, having
// checked what holds between them (CVMFS-FORMAT 2.14).
func (r *repo) read() map[string]catalog.Entry {
	r.t.Helper()
	all := map[string]catalog.Entry{}
	r.catalog(catalog.Nested{Hash: r.root.Hash, Size: r.root.Size}, all)
	subdirs := map[string]uint32{}
	for path, e := range all {
		if path != "" && e.IsDir() {
			subdirs[catalog.Parent(path)]++
		}
	}
	for path, e := range all {
		if e.IsDir() && e.Links != 2+subdirs[path] {
			r.t.Errorf("%q has %d links and %d sub directories", path, e.Links, subdirs[path])
		}
	}
	return all
}

func (r *repo) catalog(n catalog.Nested, all map[string]catalog.Entry) catalog.Counters {
	r.t.Helper()
	src, err := r.o.Store.Get(r.t.Context(), object.Path(n.Hash, object.Catalog))
	r.must(err)
	defer src.Close()
	var plain bytes.Buffer
	_, err = codec.Decode(&plain, src, codec.Expect{Hash: n.Hash, Size: n.Size})
	r.must(err)
	file := filepath.Join(r.t.TempDir(), "catalog")
	r.must(os.WriteFile(file, plain.Bytes(), 0o600))
	w, err := catalog.OpenWriter(file)
	r.must(err)
	defer w.Close()
	if w.RootPrefix() != n.Path {
		r.t.Errorf("catalog at %q has root prefix %q", n.Path, w.RootPrefix())
	}
	var self catalog.Counters
	var walk func(path string)
	walk = func(path string) {
		list, err := w.List(path)
		r.must(err)
		for _, e := range list {
			p := path + "/" + e.Name
			self = self.Add(catalog.Of(&e))
			all[p] = e
			if e.IsDir() && e.Flags&catalog.NestedMountpoint == 0 {
				walk(p)
			}
		}
	}
	top, ok, err := w.Lookup(n.Path)
	r.must(err)
	if !ok {
		r.t.Fatalf("catalog at %q has no root row", n.Path)
	}
	if mount, nested := all[n.Path]; nested {
		if mount.Flags != catalog.NestedMountpoint || top.Flags != catalog.NestedRoot {
			r.t.Errorf("%q has flags %x in its parent's catalog and %x in its own", n.Path, mount.Flags, top.Flags)
		}
		if mount.Flags = top.Flags; !reflect.DeepEqual(mount, top) {
			r.t.Errorf("%q is %+v in its parent's catalog and %+v in its own", n.Path, mount, top)
		}
	}
	if n.Path != "" {
		if _, ok, _ := w.Lookup(n.Path + "/" + revision.Marker); !ok {
			r.t.Errorf("catalog at %q has no marker", n.Path)
		}
	}
	self = self.Add(catalog.Of(&top))
	all[n.Path] = top
	walk(n.Path)
	nested, err := w.Nested()
	r.must(err)
	self.Nested = int64(len(nested))
	if self != w.Self() {
		r.t.Errorf("catalog at %q counts %+v, holds %+v", n.Path, w.Self(), self)
	}
	var below catalog.Counters
	for _, child := range nested {
		below = below.Add(r.catalog(child, all))
	}
	if below != w.Subtree() {
		r.t.Errorf("below the catalog at %q: counted %+v, holds %+v", n.Path, w.Subtree(), below)
	}
	return self.Add(below)
}

func names(all map[string]catalog.Entry) string {
	return strings.Join(slices.Sorted(maps.Keys(all)), " ")
}

func TestEditsAcrossNestedCatalogs(t *testing.T) {
	r := newRepo(t)
	ctx := t.Context()
	r.edit(func(*revision.Tx) {})
	if r.root.Number != 1 {
		t.Errorf("first revision is %d", r.root.Number)
	}
	r.edit(func(tx *revision.Tx) {
		r.must(tx.MkdirAll(ctx, "/a/b/c", "/a/b"))
		r.must(tx.Symlink(ctx, "/a/b/c/l", "../x"))
		r.must(tx.MkdirAll(ctx, "/a/b/d"))
	})
	if got := names(r.read()); got != " /a /a/b /a/b/.cvmfscatalog /a/b/c /a/b/c/l /a/b/d" {
		t.Errorf("after the first edit: %s", got)
	}
	// An edit in a nested catalog that exists already, and one beside it.
	r.edit(func(tx *revision.Tx) {
		r.must(tx.MkdirAll(ctx, "/a/b/c/deep/er", "/a/b/c/deep"))
		r.must(tx.MkdirAll(ctx, "/z"))
	})
	r.edit(func(tx *revision.Tx) {
		r.must(tx.Remove(ctx, "/a/b/d"))
		r.must(tx.Remove(ctx, "/a/b/c/l"))
		r.must(tx.Remove(ctx, "/never/there"))
	})
	if got := names(r.read()); got != " /a /a/b /a/b/.cvmfscatalog /a/b/c /a/b/c/deep /a/b/c/deep/.cvmfscatalog /a/b/c/deep/er /z" {
		t.Errorf("after removing: %s", got)
	}
	// A directory that holds nested catalogs goes with them.
	r.edit(func(tx *revision.Tx) { r.must(tx.Remove(ctx, "/a")) })
	if got := names(r.read()); got != " /z" {
		t.Errorf("after removing nested catalogs: %s", got)
	}
	if r.root.Number != 5 {
		t.Errorf("five commits made revision %d", r.root.Number)
	}
}

func TestRefusals(t *testing.T) {
	r := newRepo(t)
	ctx := t.Context()
	r.edit(func(tx *revision.Tx) {
		r.must(tx.Symlink(ctx, "/l", "x"))
		if err := tx.Symlink(ctx, "/l", "y"); !errors.Is(err, revision.ErrExists) {
			t.Errorf("a second /l: %v", err)
		}
		if err := tx.Symlink(ctx, "/l/below", "y"); !errors.Is(err, revision.ErrNotDir) {
			t.Errorf("below a link: %v", err)
		}
		if err := tx.MkdirAll(ctx, "/l/dir"); !errors.Is(err, revision.ErrNotDir) {
			t.Errorf("a directory below a link: %v", err)
		}
	})
}

func TestTree(t *testing.T) {
	r := newRepo(t)
	ctx := t.Context()
	content := object.ContentOf([]byte("x"))
	stored := imagemeta.Stored{Size: 1, Hash: object.SHA1.Sum([]byte("stored"))}
	entries := []imagemeta.Entry{
		{Path: "", Mode: catalog.ModeDir | 0o700, UID: 5, MTime: -1, Nsec: 5},
		{Path: "d", Mode: catalog.ModeDir | 0o755},
		{Path: "d/a", Mode: catalog.ModeRegular | 0o644, Size: 1, Content: content, Link: 1},
		{Path: "d/b", Mode: catalog.ModeRegular | 0o644, Size: 1, Content: content, Link: 1},
		{Path: "e", Mode: catalog.ModeRegular | 0o644, Size: 1, Content: content, Link: 1},
		{Path: "n", Mode: catalog.ModeChar | 0o666, Major: 1, Minor: 3},
		{Path: "x", Mode: catalog.ModeSymlink | 0o777, Target: "/d", XAttrs: []imagemeta.XAttr{{Name: "trusted.big", Value: make([]byte, 256)}}},
	}
	contents := func(id object.ContentID) (imagemeta.Stored, bool) { return stored, id == content }
	r.edit(func(tx *revision.Tx) {
		r.must(tx.MkdirAll(ctx, "/rootfs/n", "/rootfs/n"))
		tree, err := tx.BuildTree(ctx, "/rootfs/n/1", entries, contents, []catalog.XAttr{{Name: "user.rootstock.tree", Value: []byte("id")}})
		r.must(err)
		if tree.Dropped != 1 {
			t.Errorf("%d xattrs dropped, not 1", tree.Dropped)
		}
		r.must(tx.Mount(ctx, "/rootfs/n/1", tree))
	})
	all := r.read()
	root := all["/rootfs/n/1"]
	if root.UID != 5 || root.MTime != -1 || root.MTimeNS != 5 || root.Links != 3 || len(root.XAttrs) != 1 {
		t.Errorf("root of the tree: %+v", root)
	}
	a, b, e := all["/rootfs/n/1/d/a"], all["/rootfs/n/1/d/b"], all["/rootfs/n/1/e"]
	if a.Group == 0 || a.Group != b.Group || a.Links != 2 || b.Links != 2 {
		t.Errorf("two names in one directory: %+v %+v", a, b)
	}
	if e.Group != 0 || e.Links != 1 {
		t.Errorf("the name in another directory: %+v", e)
	}
	if n := all["/rootfs/n/1/n"]; n.Size != 1<<8|3 {
		t.Errorf("device number %d", n.Size)
	}

	// What is not stored, and an xattr that is ours, end it.
	r.edit(func(tx *revision.Tx) {
		if _, err := tx.BuildTree(ctx, "/t", entries, func(object.ContentID) (imagemeta.Stored, bool) { return stored, false }, nil); err == nil {
			t.Error("a content that is not stored was accepted")
		}
		own := slices.Clone(entries)
		own[0].XAttrs = []imagemeta.XAttr{{Name: "user.rootstock.tree", Value: []byte("forged")}}
		_, err := tx.BuildTree(ctx, "/t", own, contents, []catalog.XAttr{{Name: "user.rootstock.tree", Value: []byte("id")}})
		if !errors.Is(err, imagemeta.ErrInvalid) {
			t.Errorf("a source that claims our xattr: %v", err)
		}
	})
}

// Publishing is a handful of edits over and over: nothing may leak into the
// next transaction, and only the catalogs on the way may be written.
func TestOnlyTouchedCatalogsAreWritten(t *testing.T) {
	r := newRepo(t)
	ctx := t.Context()
	r.edit(func(tx *revision.Tx) {
		for i := range 3 {
			r.must(tx.MkdirAll(ctx, fmt.Sprintf("/n%d/x", i), fmt.Sprintf("/n%d", i)))
		}
	})
	before := r.nested()
	r.edit(func(tx *revision.Tx) { r.must(tx.Symlink(ctx, "/n1/l", "x")) })
	after := r.nested()
	for path, hash := range before {
		if (after[path] != hash) != (path == "/n1") {
			t.Errorf("catalog at %s: %s before, %s after", path, hash, after[path])
		}
	}
}

func (r *repo) nested() map[string]object.Hash {
	r.t.Helper()
	src, err := r.o.Store.Get(r.t.Context(), object.Path(r.root.Hash, object.Catalog))
	r.must(err)
	defer src.Close()
	var plain bytes.Buffer
	_, err = codec.Decode(&plain, src, codec.Expect{Hash: r.root.Hash, Size: r.root.Size})
	r.must(err)
	file := filepath.Join(r.t.TempDir(), "root")
	r.must(os.WriteFile(file, plain.Bytes(), 0o600))
	w, err := catalog.OpenWriter(file)
	r.must(err)
	defer w.Close()
	list, err := w.Nested()
	r.must(err)
	all := map[string]object.Hash{}
	for _, n := range list {
		all[n.Path] = n.Hash
	}
	return all
}
