package catalog_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
)

// useAll calls every accessor of rows that are there and rows that are not, and
// checks that walking up or down ends.
func useAll(t testing.TB, x *catalog.Index) {
	for row := range uint32(x.Len()) + 2 {
		s := x.Stat(row)
		if s.Children > 0 && (s.First <= row || int(s.First+s.Children) > x.Len()) || s.FirstLink > row || x.Parent(row) > 0 && x.Parent(row) >= row {
			t.Fatalf("row %d: parent %d, stat %+v", row, x.Parent(row), s)
		}
		x.Name(row)
		x.Path(row)
		x.Symlink(row)
		x.XAttrs(row) //nolint:errcheck // may well be malformed
		x.HasXAttrs(row)
		if h := x.Hash(row); !h.IsZero() {
			object.Path(h, object.Bulk)
			h.Algorithm.New()
		}
		x.Chunks(row)
		x.NestedAt(row)
		for i := range s.Children {
			x.Child(row, x.Name(s.First+i))
		}
		x.Child(row, nil)
	}
	for range x.Nested() {
	}
	for range x.Binds() {
	}
	x.Find("/d/f")
	x.Find(x.RootPrefix())
	x.Stat(catalog.NoRow)
	x.Parent(catalog.NoRow)
}

func sampleIndex(t testing.TB) (path string, data []byte) {
	t.Helper()
	db := sample(t)
	path = filepath.Join(t.TempDir(), "index")
	must(t, catalog.Compile(t.Context(), openReader(t, db), path))
	data, err := os.ReadFile(path)
	must(t, err)
	return path, data
}

func openIndexOf(t testing.TB, data []byte) (*catalog.Index, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index")
	must(t, os.WriteFile(path, data, 0o600))
	return catalog.OpenIndex(path)
}

func TestIndexTruncatedOrAltered(t *testing.T) {
	_, good := sampleIndex(t)
	for n := 0; n < len(good); n += 61 {
		if _, err := openIndexOf(t, good[:n]); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%d of %d bytes: %v", n, len(good), err)
		}
	}
	if _, err := openIndexOf(t, append(good[:len(good):len(good)], 0)); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("a byte too many: %v", err)
	}
	const header = 512
	for at := range header {
		bad := append([]byte(nil), good...)
		bad[at] ^= 0x40
		if _, err := openIndexOf(t, bad); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("byte %d of the header altered: %v", at, err)
		}
	}
	// Behind the header nothing is checked at opening, and nothing panics.
	for at := header; at < len(good); at++ {
		for _, b := range []byte{0, 0x7f, 0xff} {
			bad := append([]byte(nil), good...)
			bad[at] = b
			x, err := openIndexOf(t, bad)
			must(t, err)
			useAll(t, x)
			if err := x.Verify(); (err == nil) != (good[at] == b) {
				t.Errorf("byte %d altered: Verify %v", at, err)
			}
			must(t, x.Close())
		}
	}
}

// FuzzIndex alters anything, the header's checksum being made right again.
func FuzzIndex(f *testing.F) {
	_, good := sampleIndex(f)
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= 512 {
			data = append([]byte(nil), data...)
			binary.LittleEndian.PutUint32(data[508:], crc32.Checksum(data[:508], crc32.MakeTable(crc32.Castagnoli)))
		}
		x, err := openIndexOf(t, data)
		if err != nil {
			return
		}
		useAll(t, x)
		must(t, x.Close())
	})
}

func TestIndexFind(t *testing.T) {
	path, _ := sampleIndex(t)
	x, err := catalog.OpenIndex(path)
	must(t, err)
	defer x.Close() //nolint:errcheck // a test's end
	for p, want := range map[string]bool{
		"": true, "/": true, "/d": true, "d": true, "/d/f": true, "/n": true,
		"/x": false, "/d/x": false, "/d/f/x": false, "/d/": false, "//d": false, "/d//f": false,
	} {
		if row, ok := x.Find(p); ok != want {
			t.Errorf("Find(%q) = %d, %v", p, row, ok)
		}
	}
	f, _ := x.Find("/d/f")
	g, _ := x.Find("/d/g")
	if x.Stat(g).FirstLink != f || x.Stat(f).FirstLink != f {
		t.Errorf("links of %d are %d and %d", f, x.Stat(f).FirstLink, x.Stat(g).FirstLink)
	}
	n, _ := x.Find("/n")
	if x.Stat(n).FirstLink != n {
		t.Errorf("a row that stands alone links to %d", x.Stat(n).FirstLink)
	}
}

// Two files that claim the same group must not share an inode.
func TestFalseHardLink(t *testing.T) {
	for name, script := range map[string]string{
		"content":   "UPDATE catalog SET hash = zeroblob(20) WHERE name = 'g';",
		"mode":      "UPDATE catalog SET mode = 33261 WHERE name = 'g';",
		"xattrs":    "UPDATE catalog SET xattr = NULL WHERE name = 'g';",
		"directory": "UPDATE catalog SET (md5path_1, md5path_2, parent_1, parent_2) = (" + key("/g") + ", " + key("") + ") WHERE name = 'g';",
	} {
		path := sample(t)
		alter(t, path, script)
		x := compile(t, openReader(t, path))
		for row := range uint32(x.Len()) {
			if got := x.Stat(row).FirstLink; got != row {
				t.Errorf("%s: row %d shares the inode of %d", name, row, got)
			}
		}
	}
}

func key(path string) string {
	k := catalog.KeyOf(path)
	return itoa(k.A) + ", " + itoa(k.B)
}

// A catalog meant to be bind-mounted may have rows of another place than its
// prefix says.
func TestForeignRoot(t *testing.T) {
	w, path := create(t, catalog.CreateOptions{RootPrefix: "/a"})
	root := dir(0)
	root.Flags = catalog.NestedRoot
	must(t, w.Add("/a", root))
	must(t, w.Add("/a/f", file(1)))
	finish(t, w)
	alter(t, path, "UPDATE properties SET value = '/elsewhere' WHERE key = 'root_prefix';")
	x := compile(t, openReader(t, path))
	if f, ok := x.Find("f"); !ok || x.Path(f) != "/elsewhere/f" {
		t.Errorf("row %d, %v", f, ok)
	}
}

// Where no key can be compared with a path, the rows must still be one tree.
func TestForeignRootRefused(t *testing.T) {
	for name, script := range map[string]string{
		"no root":       "UPDATE catalog SET flags = 1 WHERE name = 'a';",
		"two roots":     "UPDATE catalog SET flags = 33 WHERE name = 'd';",
		"name twice":    "UPDATE catalog SET name = 'g' WHERE name = 'f';",
		"no parent":     "UPDATE catalog SET parent_1 = 1 WHERE name = 'f';",
		"child of file": "UPDATE catalog SET (parent_1, parent_2) = (SELECT md5path_1, md5path_2 FROM catalog WHERE name = 'f') WHERE name = 'g';",
		"cycle":         "UPDATE catalog SET parent_1 = md5path_1, parent_2 = md5path_2 WHERE name = 'd';",
	} {
		w, path := create(t, catalog.CreateOptions{RootPrefix: "/a"})
		root := dir(1)
		root.Flags = catalog.NestedRoot
		must(t, w.Add("/a", root))
		must(t, w.Add("/a/d", dir(0)))
		must(t, w.Add("/a/f", file(1)))
		must(t, w.Add("/a/g", file(2)))
		finish(t, w)
		alter(t, path, "UPDATE properties SET value = '/elsewhere' WHERE key = 'root_prefix';"+script)
		r := openReader(t, path)
		if err := catalog.Compile(t.Context(), r, filepath.Join(t.TempDir(), "index")); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A path that is longer than any an index can answer for is refused where it
// is compiled, however it got there.
func TestPathTooLong(t *testing.T) {
	w, path := create(t, catalog.CreateOptions{})
	must(t, w.Add("", dir(1)))
	deep := ""
	for range 32 {
		deep += "/" + strings.Repeat("n", 250)
		must(t, w.Add(deep, dir(1)))
	}
	must(t, w.Add(deep+"/f", file(1)))
	finish(t, w)
	if err := catalog.Compile(t.Context(), openReader(t, path), filepath.Join(t.TempDir(), "index")); !errors.Is(err, catalog.ErrInvalid) {
		t.Error(err)
	}
}

func TestCompileReplaces(t *testing.T) {
	path, _ := sampleIndex(t)
	x, err := catalog.OpenIndex(path)
	must(t, err)
	other := filepath.Join(t.TempDir(), "catalog")
	write(t, other, distribution(100))
	must(t, catalog.Compile(t.Context(), openReader(t, other), path))
	useAll(t, x) // the old mapping lives on
	if _, ok := x.Find("/d/f"); !ok {
		t.Error("the old index changed")
	}
	must(t, x.Close())
	must(t, x.Close())
	useAll(t, x)
	left, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}
