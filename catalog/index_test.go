package catalog_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
)

// openAll opens what a test looks at and closes it at its end.
func openReader(t testing.TB, path string) *catalog.Reader {
	t.Helper()
	r, err := catalog.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func compile(t testing.TB, r *catalog.Reader) *catalog.Index {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index")
	if err := catalog.Compile(t.Context(), r, path); err != nil {
		t.Fatal(err)
	}
	x, err := catalog.OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := x.Verify(); err != nil {
		t.Error(err)
	}
	return x
}

// rowsOf returns all rows of a catalog by path.
func rowsOf(t testing.TB, r *catalog.Reader) map[string]catalog.Row {
	t.Helper()
	byKey := map[catalog.PathKey]catalog.Row{}
	err := r.Scan(t.Context(), func(row catalog.Row) error {
		byKey[row.Key] = row
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]catalog.Row{}
	var pathOf func(row catalog.Row) string
	pathOf = func(row catalog.Row) string {
		if row.Key == catalog.KeyOf(r.RootPrefix()) {
			return r.RootPrefix()
		}
		parent, ok := byKey[row.Parent]
		if !ok {
			t.Fatalf("row %d %q has no parent", row.ID, row.Name)
		}
		return pathOf(parent) + "/" + row.Name
	}
	for _, row := range byKey {
		byPath[pathOf(row)] = row
	}
	return byPath
}

// entryOf puts an entry together from an index.
func entryOf(t testing.TB, x *catalog.Index, row uint32) catalog.Entry {
	t.Helper()
	s := x.Stat(row)
	xattrs, err := x.XAttrs(row)
	if err != nil {
		t.Fatal(err)
	}
	if x.HasXAttrs(row) != (len(xattrs) > 0) {
		t.Errorf("HasXAttrs(%d) does not agree", row)
	}
	return catalog.Entry{
		Name: string(x.Name(row)), Mode: s.Mode, UID: s.UID, GID: s.GID,
		Size: s.Size, MTime: s.MTime, MTimeNS: s.MTimeNS, Flags: s.Flags,
		Links: s.Links, Group: s.Group, Hash: x.Hash(row), Algorithm: s.HashAlgorithm,
		Compression: s.Compression, Chunks: x.Chunks(row),
		Symlink: string(x.Symlink(row)), XAttrs: xattrs,
	}
}

// checkIndex compares an index with the rows it was made of.
func checkIndex(t testing.TB, r *catalog.Reader, x *catalog.Index) {
	t.Helper()
	rows := rowsOf(t, r)
	if x.Len() != len(rows) || x.RootPrefix() != r.RootPrefix() || x.Revision() != r.Revision() {
		t.Errorf("index has %d rows, prefix %q, revision %d", x.Len(), x.RootPrefix(), x.Revision())
	}
	self, subtree, err := r.Counters()
	if err != nil {
		t.Error(err)
	}
	if s, sub := x.Counters(); s != self || sub != subtree {
		t.Errorf("counters %+v, %+v; want %+v, %+v", s, sub, self, subtree)
	}
	anyXAttrs := false
	for path, want := range rows {
		at, ok := x.Find(strings.TrimPrefix(path, r.RootPrefix()))
		if !ok {
			t.Errorf("%q is not in the index", path)
			continue
		}
		if diff := cmp.Diff(want.Entry, entryOf(t, x, at)); diff != "" {
			t.Errorf("%q: %s", path, diff)
		}
		if x.Path(at) != path {
			t.Errorf("Path(%d) = %q, want %q", at, x.Path(at), path)
		}
		if path != r.RootPrefix() {
			if p := x.Path(x.Parent(at)); p != catalog.Parent(path) {
				t.Errorf("parent of %q is %q", path, p)
			}
		}
		anyXAttrs = anyXAttrs || len(want.XAttrs) > 0
	}
	if x.AnyXAttrs() != anyXAttrs {
		t.Errorf("AnyXAttrs is %v", x.AnyXAttrs())
	}
	for row := range uint32(x.Len()) {
		s := x.Stat(row)
		var names [][]byte
		for i := range s.Children {
			names = append(names, x.Name(s.First+i))
		}
		if !slices.IsSortedFunc(names, bytes.Compare) {
			t.Errorf("names below %d are not sorted", row)
		}
	}
	nested, err := r.Nested()
	if err != nil {
		t.Error(err)
	}
	for _, n := range nested {
		at, _ := x.Find(strings.TrimPrefix(n.Path, r.RootPrefix()))
		if got, ok := x.NestedAt(at); !ok || got != n {
			t.Errorf("NestedAt(%q) = %v, %v; want %v", n.Path, got, ok, n)
		}
	}
	n := 0
	for row, got := range x.Nested() {
		if n++; x.Path(row) != got.Path {
			t.Errorf("mountpoint of %q is %q", got.Path, x.Path(row))
		}
	}
	if n != len(nested) {
		t.Errorf("%d nested catalogs, want %d", n, len(nested))
	}
}

func TestIndexOfGolden(t *testing.T) {
	for name, path := range goldenCatalogs(t) {
		t.Run(name, func(t *testing.T) {
			r := openReader(t, path)
			checkIndex(t, r, compile(t, r))
		})
	}
}

var someHash = object.SHAKE128.Sum([]byte("some content"))

// file returns an entry of a regular file.
func file(size int64) *catalog.Entry {
	return &catalog.Entry{
		Mode: 0o100644, Size: size, MTime: 1, MTimeNS: catalog.NoNanoseconds,
		Links: 1, Hash: someHash, Algorithm: someHash.Algorithm, Compression: object.Zstd,
	}
}

// dir returns an entry of a directory.
func dir(subdirs uint32) *catalog.Entry {
	return &catalog.Entry{Mode: 0o40755, Size: 4096, MTime: 2, MTimeNS: catalog.NoNanoseconds, Links: 2 + subdirs}
}
