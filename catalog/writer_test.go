package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
)

func create(t testing.TB, o catalog.CreateOptions) (*catalog.Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog")
	w, err := catalog.Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func finish(t testing.TB, w *catalog.Writer) (self, subtree catalog.Counters) {
	t.Helper()
	self, subtree, err := w.Finish(catalog.Revision{Number: 7, Previous: someHash, LastModified: 1_700_000_000})
	must(t, err)
	return self, subtree
}

// recount computes counters from what a finished catalog holds.
func recount(t testing.TB, r *catalog.Reader) catalog.Counters {
	t.Helper()
	var c catalog.Counters
	must(t, r.Scan(t.Context(), func(row catalog.Row) error {
		c = c.Add(catalog.Of(&row.Entry))
		return nil
	}))
	nested, err := r.Nested()
	must(t, err)
	c.Nested = int64(len(nested))
	return c
}

// rowIDs returns all row ids and that of the root.
func rowIDs(t testing.TB, r *catalog.Reader) (ids []int64, root int64) {
	t.Helper()
	must(t, r.Scan(t.Context(), func(row catalog.Row) error {
		ids = append(ids, row.ID)
		if row.Key == catalog.KeyOf(r.RootPrefix()) {
			root = row.ID
		}
		return nil
	}))
	return ids, root
}

// CVMFS-FORMAT 2.13.
func TestWorkedExample(t *testing.T) {
	sha := func(s string) object.Hash {
		h, err := object.ParseHash(s)
		must(t, err)
		return h
	}
	reg := func(size int64, hash string) *catalog.Entry {
		return &catalog.Entry{Mode: 33188, Links: 1, Size: size, Hash: sha(hash), MTimeNS: -1}
	}
	foo := dir(1)
	w, path := create(t, catalog.CreateOptions{RootPrefix: "/foo"})
	foo.Flags = catalog.NestedRoot
	must(t, w.Add("/foo", foo))
	must(t, w.Add("/foo/.cvmfscatalog", reg(0, "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78")))
	hello := reg(6, "5798f7f4ca7585d850eea64610a1f73d8f8de7a3")
	hello.XAttrs = []catalog.XAttr{{Name: "user.foo", Value: []byte("bar")}}
	must(t, w.Add("/foo/hello", hello))
	must(t, w.Add("/foo/sub", dir(0)))
	self, subtree := finish(t, w)
	if want := (catalog.Counters{Dir: 2, Regular: 2, FileSize: 6, XAttr: 1}); self != want || subtree != (catalog.Counters{}) {
		t.Errorf("nested counters %+v, %+v", self, subtree)
	}
	nested := openReader(t, path)
	if diff := cmp.Diff(rowsOf(t, nested)["/foo/hello"].Parent, catalog.PathKey{A: 5745132282796244766, B: -5819618580357280866}); diff != "" {
		t.Error(diff)
	}
	if got := rowsOf(t, nested)["/foo"]; got.ID != 1 || got.Parent != catalog.KeyOf("") || got.Name != "foo" {
		t.Errorf("nested root %+v", got)
	}

	root, path := create(t, catalog.CreateOptions{TTL: time.Hour, Volatile: true})
	must(t, root.Add("", dir(1)))
	foo.Flags = catalog.NestedMountpoint
	must(t, root.Add("/foo", foo))
	must(t, root.Add("/link", &catalog.Entry{Mode: 41471, Links: 1, Size: 9, Symlink: "foo/hello", MTimeNS: -1}))
	must(t, root.SetNested(catalog.Nested{Path: "/foo"}))
	must(t, root.SetNested(catalog.Nested{Path: "/foo", Hash: someHash, Size: 57344}))
	root.AddSubtree(self.Add(subtree))
	self, subtree = finish(t, root)
	if want := (catalog.Counters{Dir: 2, Symlink: 1, Nested: 1}); self != want {
		t.Errorf("self %+v", self)
	}
	if want := (catalog.Counters{Dir: 2, Regular: 2, FileSize: 6, XAttr: 1}); subtree != want {
		t.Errorf("subtree %+v", subtree)
	}
	r := openReader(t, path)
	link := rowsOf(t, r)["/link"]
	if link.Key != (catalog.PathKey{A: 329225305279315620, B: 356563302201829667}) || link.Symlink != "foo/hello" {
		t.Errorf("link %+v", link)
	}
	want := map[string]string{
		"schema": "2.5", "schema_revision": "7", "revision": "7", "last_modified": "1700000000",
		"previous_revision": someHash.String(), "TTL": "3600", "volatile": "1",
	}
	if diff := cmp.Diff(want, r.Properties()); diff != "" {
		t.Error(diff)
	}
	if r.TTL() != time.Hour || r.Revision() != 7 || r.Previous() != someHash || r.RootPrefix() != "" || nested.RootPrefix() != "/foo" {
		t.Error("properties are not read as written")
	}
	checkIndex(t, r, compile(t, r))
	checkIndex(t, nested, compile(t, nested))
}

// What stock software wrote reads the same after we wrote it again.
func TestGoldenRewritten(t *testing.T) {
	for name, path := range goldenCatalogs(t) {
		t.Run(name, func(t *testing.T) {
			r := openReader(t, path)
			rows := rowsOf(t, r)
			if len(rows) == 0 {
				t.Fatal("no rows")
			}
			w, out := create(t, catalog.CreateOptions{RootPrefix: r.RootPrefix()})
			paths := make([]string, 0, len(rows))
			for p := range rows {
				paths = append(paths, p)
			}
			slices.SortFunc(paths, func(a, b string) int { return int(rows[a].ID - rows[b].ID) })
			for _, p := range paths {
				e := rows[p].Entry
				must(t, w.Add(p, &e))
			}
			nested, err := r.Nested()
			must(t, err)
			for _, n := range nested {
				must(t, w.SetNested(n))
			}
			self, subtree, err := r.Counters()
			must(t, err)
			w.AddSubtree(subtree)
			gotSelf, gotSubtree := finish(t, w)
			if gotSelf != self || gotSubtree != subtree {
				t.Errorf("counters %+v, want %+v", gotSelf, self)
			}
			again := openReader(t, out)
			opt := cmpopts.IgnoreFields(catalog.Row{}, "ID")
			if diff := cmp.Diff(rows, rowsOf(t, again), opt); diff != "" {
				t.Error(diff)
			}
			gotNested, err := again.Nested()
			must(t, err)
			byPath := cmpopts.SortSlices(func(a, b catalog.Nested) bool { return a.Path < b.Path })
			if diff := cmp.Diff(nested, gotNested, byPath); diff != "" {
				t.Error(diff)
			}
			x, y := compile(t, r), compile(t, again)
			if x.Len() != y.Len() {
				t.Errorf("%d and %d rows", x.Len(), y.Len())
			}
		})
	}
}

func TestWriterChanges(t *testing.T) {
	w, path := create(t, catalog.CreateOptions{})
	// The root comes late, and rows go: ids must be dense in the end.
	must(t, w.Add("/a", dir(0)))
	must(t, w.Add("", dir(1)))
	for i := range 100 {
		must(t, w.Add(fmt.Sprintf("/a/f%02d", i), file(int64(i))))
	}
	if err := w.Add("/a", dir(0)); !errors.Is(err, catalog.ErrExist) {
		t.Errorf("second Add: %v", err)
	}
	chunked := file(300)
	chunked.Hash, chunked.Flags, chunked.Group, chunked.Links = object.Hash{}, catalog.Chunked, 9, 2
	chunked.Chunks = []catalog.Chunk{{Size: 100, Hash: someHash}, {Offset: 100, Size: 200, Hash: someHash}}
	chunked.XAttrs = []catalog.XAttr{{Name: "user.x", Value: []byte{0, 255}}}
	must(t, w.Replace("/a/f07", chunked))
	if got, ok, err := w.Lookup("/a/f07"); err != nil || !ok {
		t.Errorf("Lookup: %v, %v", ok, err)
	} else if diff := cmp.Diff(*chunked, got, cmpopts.IgnoreFields(catalog.Entry{}, "Name")); diff != "" {
		t.Error(diff)
	}
	if got := w.Self(); got.Chunks != 2 || got.Chunked != 1 || got.XAttr != 1 || got.ChunkedSize != 300 {
		t.Errorf("counters %+v", got)
	}
	if w.MaxGroup() != 9 {
		t.Errorf("MaxGroup is %d", w.MaxGroup())
	}
	must(t, w.Replace("/a/f07", file(7)))
	must(t, w.Replace("/a/f08", chunked))
	for i := 10; i < 100; i += 3 {
		must(t, w.Remove(fmt.Sprintf("/a/f%02d", i)))
	}
	must(t, w.Remove("/a/f08"))
	must(t, w.Remove("/a/f99"))
	must(t, w.Add("/a/last", file(1)))
	if err := w.Remove("/a/f08"); !errors.Is(err, catalog.ErrNotExist) {
		t.Errorf("second Remove: %v", err)
	}
	if err := w.Replace("/a/f08", file(1)); !errors.Is(err, catalog.ErrNotExist) {
		t.Errorf("Replace of nothing: %v", err)
	}
	if _, ok, err := w.Lookup("/a/f08"); ok || err != nil {
		t.Errorf("Lookup of nothing: %v, %v", ok, err)
	}
	list, err := w.List("/a")
	must(t, err)
	if len(list) != int(w.Len())-2 || !slices.IsSortedFunc(list, func(a, b catalog.Entry) int { return cmpString(a.Name, b.Name) }) {
		t.Errorf("%d entries listed of %d rows", len(list), w.Len())
	}
	self, _ := finish(t, w)
	r := openReader(t, path)
	if got := recount(t, r); got != self {
		t.Errorf("counters %+v, recounted %+v", self, got)
	}
	ids, root := rowIDs(t, r)
	if root != 1 || ids[len(ids)-1] != int64(len(ids)) {
		t.Errorf("root is %d, last of %d is %d", root, len(ids), ids[len(ids)-1])
	}
	checkIndex(t, r, compile(t, r))
	head, err := os.ReadFile(path)
	must(t, err)
	if head[18] != 1 || head[19] != 1 {
		t.Errorf("file format %v", head[18:20])
	}
}

func cmpString(a, b string) int { return bytes.Compare([]byte(a), []byte(b)) }

func TestWriterRefuses(t *testing.T) {
	w, _ := create(t, catalog.CreateOptions{RootPrefix: "/foo"})
	bad := func(change func(e *catalog.Entry)) *catalog.Entry {
		e := file(10)
		change(e)
		return e
	}
	for name, tc := range map[string]struct {
		path string
		e    *catalog.Entry
	}{
		"outside":        {"/bar", file(1)},
		"sibling":        {"/foobar", file(1)},
		"relative":       {"foo", file(1)},
		"dot dot":        {"/foo/..", file(1)},
		"trailing slash": {"/foo/", dir(0)},
		"NUL":            {"/foo/a\x00", file(1)},
		"root is a file": {"/foo", file(1)},
		"long name":      {"/foo/" + string(bytes.Repeat([]byte{'n'}, 256)), file(1)},
		"other name":     {"/foo/a", bad(func(e *catalog.Entry) { e.Name = "b" })},
		"no links":       {"/foo/a", bad(func(e *catalog.Entry) { e.Links = 0 })},
		"size":           {"/foo/a", bad(func(e *catalog.Entry) { e.Size = -1 })},
		"nanoseconds":    {"/foo/a", bad(func(e *catalog.Entry) { e.MTimeNS = 1e9 })},
		"no type":        {"/foo/a", bad(func(e *catalog.Entry) { e.Mode = 0o644 })},
		"target":         {"/foo/a", bad(func(e *catalog.Entry) { e.Symlink = "b" })},
		"no chunks":      {"/foo/a", bad(func(e *catalog.Entry) { e.Flags = catalog.Chunked })},
		"stray chunks":   {"/foo/a", bad(func(e *catalog.Entry) { e.Chunks = []catalog.Chunk{{Size: 10, Hash: someHash}} })},
		"chunk gap": {"/foo/a", bad(func(e *catalog.Entry) {
			e.Flags, e.Chunks = catalog.Chunked, []catalog.Chunk{{Size: 4, Hash: someHash}, {Offset: 5, Size: 5, Hash: someHash}}
		})},
		"chunk hash": {"/foo/a", bad(func(e *catalog.Entry) {
			e.Flags, e.Chunks = catalog.Chunked, []catalog.Chunk{{Size: 10, Hash: object.SHA1.Sum(nil)}}
		})},
		"xattr": {"/foo/a", bad(func(e *catalog.Entry) { e.XAttrs = []catalog.XAttr{{Name: "a", Value: make([]byte, 256)}} })},
	} {
		if err := w.Add(tc.path, tc.e); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.Len() != 0 || w.Self() != (catalog.Counters{}) {
		t.Errorf("%d rows, %+v", w.Len(), w.Self())
	}
	if _, _, err := w.Finish(catalog.Revision{}); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("Finish without root: %v", err)
	}
	path := filepath.Join(t.TempDir(), "there")
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	if _, err := catalog.Create(path, catalog.CreateOptions{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("Create over a file: %v", err)
	}
}

func TestNestedRows(t *testing.T) {
	w, _ := create(t, catalog.CreateOptions{})
	must(t, w.Add("", dir(0)))
	n := catalog.Nested{Path: "/x", Hash: someHash, Size: 4096}
	must(t, w.SetNested(n))
	if got, err := w.Nested(); err != nil || len(got) != 1 || got[0] != n || w.Self().Nested != 1 {
		t.Errorf("%v, %v, %+v", got, err, w.Self())
	}
	must(t, w.RemoveNested("/x"))
	if err := w.RemoveNested("/x"); !errors.Is(err, catalog.ErrNotExist) || w.Self().Nested != 0 {
		t.Errorf("second removal: %v, %+v", err, w.Self())
	}
	for _, p := range []string{"", "x", "/x/", "/../x"} {
		if err := w.SetNested(catalog.Nested{Path: p}); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("SetNested(%q): %v", p, err)
		}
	}
}

// The same calls give the same bytes.
func TestWriterIsDeterministic(t *testing.T) {
	var files [2][]byte
	for i := range files {
		path := filepath.Join(t.TempDir(), "catalog")
		write(t, path, distribution(3000))
		w, err := catalog.OpenWriter(path)
		must(t, err)
		must(t, w.Remove("/directory-3"))
		finish(t, w)
		files[i], err = os.ReadFile(path)
		must(t, err)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two files of the same calls differ")
	}
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	must(t, err)
	return st.Size()
}
