package revision_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/revision"
)

// forest is a canonical listing of directories and files by path; a directory's
// path ends with a slash.
func forest(paths ...string) []imagemeta.Entry {
	entries := []imagemeta.Entry{{Mode: catalog.ModeDir | 0o755}}
	for _, p := range paths {
		e := imagemeta.Entry{Path: p, Mode: catalog.ModeRegular | 0o644, Content: object.EmptyContent, MTime: int64(len(p))}
		if dir, ok := strings.CutSuffix(p, "/"); ok {
			e = imagemeta.Entry{Path: dir, Mode: catalog.ModeDir | 0o711, MTime: int64(len(p)), UID: 7}
			e.XAttrs = []imagemeta.XAttr{{Name: "user.a", Value: []byte(dir)}}
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b imagemeta.Entry) int { return imagemeta.Compare(a.Path, b.Path) })
	return slices.CompactFunc(entries, func(a, b imagemeta.Entry) bool { return a.Path == b.Path })
}

// grow mounts the tree at /t.
func (r *repo) grow(entries []imagemeta.Entry) {
	r.t.Helper()
	empty, err := revision.EmptyObject(r.o.Algorithm, r.o.Compression)
	r.must(err)
	r.edit(func(tx *revision.Tx) {
		tree, err := tx.BuildTree(r.t.Context(), "/t", entries, func(object.ContentID) (imagemeta.Stored, bool) {
			return imagemeta.Stored{Hash: empty}, true
		}, []catalog.XAttr{{Name: "user.rootstock.tree", Value: []byte("id")}})
		r.must(err)
		r.must(tx.Mount(r.t.Context(), "/t", tree))
	})
}

// weights returns the rows of each of the tree's catalogs by mountpoint, its
// marker not counted, and checks that all holds the listing.
func (r *repo) weights(entries []imagemeta.Entry) map[string]int {
	r.t.Helper()
	all := r.read()
	weights := map[string]int{}
	for path, e := range all {
		if e.Flags&(catalog.NestedMountpoint|catalog.NestedRoot) != 0 {
			weights[path] = 1 // its own row there, beside the one in its parent's
		}
	}
	for path := range all {
		if strings.HasSuffix(path, "/"+revision.Marker) {
			if weights[catalog.Parent(path)] == 0 {
				r.t.Errorf("%s is in no catalog's root", path)
			}
			delete(all, path)
			continue
		}
		for at := path; at != ""; {
			at = catalog.Parent(at)
			if weights[at] > 0 {
				weights[at]++
				break
			}
		}
	}
	for _, e := range entries {
		path := strings.TrimSuffix("/t/"+e.Path, "/")
		row, ok := all[path]
		if !ok || row.Mode != e.Mode || row.MTime != e.MTime || row.UID != e.UID {
			r.t.Errorf("%q: %+v", path, row)
		}
		if want := len(e.XAttrs); path != "/t" && len(row.XAttrs) != want {
			r.t.Errorf("%q has %d xattrs instead of %d", path, len(row.XAttrs), want)
		}
	}
	if len(all) != len(entries)+1 { // and the repository's root
		r.t.Errorf("%d rows for %d entries", len(all), len(entries))
	}
	return weights
}

func TestSplit(t *testing.T) {
	var flat, deep, even, mixed, wide []string
	each := "/t=31"
	for i := range 30 {
		dir := fmt.Sprintf("d%02d/", i)
		wide = append(wide, dir, dir+"a", dir+"b", dir+"c", dir+"d")
		each += " /t/" + dir[:3] + "=5"
	}
	for i := range 60 {
		flat = append(flat, fmt.Sprintf("f%d", i))
		deep = append(deep, strings.Repeat("d/", i+1))
		even = append(even, fmt.Sprintf("d%d/", i%6), fmt.Sprintf("d%d/f%d", i%6, i))
		mixed = append(mixed, "small/", fmt.Sprintf("small/f%d", i%5), "large/", fmt.Sprintf("large/f%d", i), "large-not/")
	}
	for _, c := range []struct {
		name  string
		paths []string
		want  string // mountpoints and weights, nothing for one catalog
	}{
		{"small", flat[:39], "/t=40"},
		{"flat", flat, "/t=61"}, // nothing to cut
		{"even", even, "/t=17 /t/d0=11 /t/d1=11 /t/d2=11 /t/d3=11 /t/d4=11"},
		{"wide", wide, each}, // what is cut off leaves its mountpoint behind
		{"mixed", mixed, "/t=9 /t/large=61"},
		{"deep", deep, "/t=22 /t" + strings.Repeat("/d", 21) + "=40"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRepo(t)
			r.o.MaxWeight = 40
			entries := forest(c.paths...)
			r.grow(entries)
			var got []string
			for path, n := range r.weights(entries) {
				if strings.HasPrefix(path, "/t") {
					got = append(got, fmt.Sprintf("%s=%d", path, n))
				}
			}
			slices.SortFunc(got, func(a, b string) int {
				return cmp.Compare(a[:strings.IndexByte(a, '=')], b[:strings.IndexByte(b, '=')])
			})
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("catalogs %s, want %s", s, c.want)
			}
			// And all of them go with the tree.
			r.edit(func(tx *revision.Tx) { r.must(tx.Remove(t.Context(), "/t")) })
			if s := names(r.read()); s != "" {
				t.Errorf("after removing: %s", s)
			}
		})
	}
}

// Whatever a tree looks like, its catalogs together are the tree, and the same
// listing always gives the same ones.
func TestSplitRandomTrees(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var paths []string
		dirs := []string{""}
		for i := range 300 {
			dir := dirs[rnd.IntN(len(dirs))]
			if rnd.IntN(4) == 0 {
				dir += fmt.Sprintf("d%d/", i)
				dirs = append(dirs, dir)
				paths = append(paths, dir)
				continue
			}
			paths = append(paths, fmt.Sprintf("%sf%d", dir, i))
		}
		entries := forest(paths...)
		var roots [2]any
		for i := range roots {
			r := newRepo(t)
			r.o.MaxWeight = 10
			r.grow(entries)
			r.weights(entries)
			roots[i] = r.nested()
		}
		if !reflect.DeepEqual(roots[0], roots[1]) {
			t.Errorf("seed %d: %v and %v", seed, roots[0], roots[1])
		}
	}
}

// A tree of 200,000 entries stays well below the 500,000 in one catalog at
// which stock tools complain, without a catalog for every small directory.
func TestLargeTree(t *testing.T) {
	var paths []string
	for a := range 20 {
		paths = append(paths, fmt.Sprintf("a%02d/", a))
		for b := range 100 {
			dir := fmt.Sprintf("a%02d/b%02d/", a, b)
			paths = append(paths, dir)
			for c := range 99 {
				paths = append(paths, fmt.Sprintf("%sc%02d", dir, c))
			}
		}
	}
	r := newRepo(t)
	entries := forest(paths...)
	if len(entries) != 200_021 {
		t.Fatalf("%d entries", len(entries))
	}
	r.grow(entries)
	n := 0
	for path, rows := range r.weights(entries) {
		if !strings.HasPrefix(path, "/t") {
			continue
		}
		n++
		if rows > revision.DefaultMaxWeight || rows < revision.DefaultMaxWeight/100 {
			t.Errorf("the catalog at %s has %d entries", path, rows)
		}
	}
	if n < 3 || n > 20 {
		t.Errorf("%d catalogs", n)
	}
}
