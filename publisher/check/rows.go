package check

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/revision"
)

// Names and places of what a repository of ours holds
// (docs/design/repository.md).
const (
	attrTree    = "user.rootstock.tree"
	attrPrefix  = "user.rootstock."
	ownDir      = "/.rootstock/"
	treesDir    = "/.rootstock/trees/"
	imagesDir   = "/.rootstock/images/"
	flatDir     = "/.flat/"
	channelsDir = "/channels/"
)

// table is the rows of one catalog under check.
type table struct {
	c    *checker
	n    *node
	here at
	temp string // the database's file

	rows     []row
	byParent []int32 // rows, by parent key and then name
	nested   []catalog.Nested
	binds    []catalog.Nested
	broken   bool // a row could not be read: what is missing may be that
	counted  catalog.Counters
	groups   map[uint32]*group
}

type row struct {
	catalog.Row
	seen bool
}

// group is what is known of a hard link group.
type group struct {
	first *row
	path  string
	names uint32
}

// load reads all rows, and reports those that are wrong by themselves.
func (t *table) load(ctx context.Context, r *catalog.Reader) error {
	var err error
	if t.nested, err = r.Nested(); err != nil {
		return err
	}
	if t.binds, err = r.Binds(); err != nil {
		return err
	}
	stray, err := r.Audit(ctx, func(cr *catalog.Row, wrong error) error {
		if wrong != nil {
			t.broken = true
			t.c.find(kindOf(cr), t.here, "%v", trim(wrong, t.temp))
			if cr.Mode == 0 || cr.Name == "" && cr.Parent != (catalog.PathKey{}) {
				return nil
			}
		}
		if cr.BadXAttrs {
			t.c.find(Entry, t.here, "row %d %q: its xattrs cannot be decoded: clients take them for none", cr.ID, cr.Name)
		}
		t.counted = t.counted.Add(catalog.Of(&cr.Entry))
		if cr.BadXAttrs {
			t.counted.XAttr++
		}
		t.rows = append(t.rows, row{Row: *cr})
		return nil
	})
	if err != nil {
		return err
	}
	if stray != 0 && !t.broken {
		t.c.find(Chunks, t.here, "%d chunks belong to no chunked file", stray)
	}
	t.counted.Chunks += max(stray, 0)
	t.counted.Nested = int64(len(t.nested))
	if t.n.self, t.n.subtree, err = r.Counters(); err != nil {
		t.c.find(Counters, t.here, "%v", trim(err, t.temp))
		t.n.self, t.n.subtree = t.counted, catalog.Counters{}
	} else if !t.broken && t.n.schema >= 2 {
		for _, d := range t.n.self.Differences(t.counted.Plain(t.n.schemaRev)) {
			t.c.find(Counters, t.here, "self_%s, as its rows count", d)
		}
	}
	t.sortRows()
	return nil
}

func kindOf(r *catalog.Row) Kind {
	if r.Flags&catalog.Chunked != 0 {
		return Chunks
	}
	return Entry
}

func (t *table) sortRows() {
	t.byParent = make([]int32, len(t.rows))
	for i := range t.byParent {
		t.byParent[i] = int32(i) // #nosec G115 -- a catalog's size bounds its rows
	}
	slices.SortFunc(t.byParent, func(i, j int32) int {
		a, b := &t.rows[i], &t.rows[j]
		return cmp.Or(cmp.Compare(a.Parent.A, b.Parent.A), cmp.Compare(a.Parent.B, b.Parent.B), strings.Compare(a.Name, b.Name))
	})
}

// under returns the rows whose parent is key, by name.
func (t *table) under(key catalog.PathKey) []int32 {
	after := func(i int, or bool) bool {
		p := t.rows[t.byParent[i]].Parent
		return cmp.Or(cmp.Compare(p.A, key.A), cmp.Compare(p.B, key.B)) > 0 || or && p == key
	}
	from := sort.Search(len(t.byParent), func(i int) bool { return after(i, true) })
	to := from + sort.Search(len(t.byParent)-from, func(i int) bool { return after(from+i, false) })
	return t.byParent[from:to]
}

// check walks the rows from the root, and returns the nested catalogs that have
// their place in the tree.
func (t *table) check() []catalog.Nested {
	t.groups = map[uint32]*group{}
	root := t.findRoot()
	if root == nil {
		t.c.find(Entry, t.here, "the catalog has no row for its root")
		return nil
	}
	t.n.root = &root.Entry
	t.n.tree = treeOf(&root.Entry)
	if t.n.inner || root.Flags&catalog.NestedRoot == 0 {
		t.n.tree = object.ContentID{}
	}
	t.checkRoot(root)
	stack := []dir{{root, t.n.path}}
	marked := false
	for len(stack) > 0 {
		d := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		subdirs, hasMarker := t.directory(d, &stack)
		if d.row == root {
			marked = hasMarker
		} else if hasMarker {
			t.c.find(Marker, at{d.path + "/" + revision.Marker, t.here.object}, "there is no nested catalog here")
		}
		if want := 2 + subdirs; d.row.Links != want && !t.broken {
			t.c.find(Links, at{show(d.path), t.here.object}, "%d links instead of %d, two and one for each sub directory", d.row.Links, want)
		}
	}
	switch {
	case t.n.path != "" && !marked:
		t.c.find(Marker, at{t.n.path, t.here.object}, "the nested catalog has no file %s: stock tools refuse it", revision.Marker)
	case t.n.path == "" && marked:
		t.c.find(Marker, at{"/" + revision.Marker, t.here.object}, "there is no nested catalog here")
	}
	t.finishGroups()
	for i := range t.rows {
		if !t.rows[i].seen {
			t.c.find(Dangling, t.here, "row %d %q: no directory leads to it", t.rows[i].ID, t.rows[i].Name)
		}
	}
	return t.finishMounts()
}

// dir is a directory on the way.
type dir struct {
	row  *row
	path string
}

func (t *table) findRoot() *row {
	key := catalog.KeyOf(t.n.path)
	for i := range t.rows {
		if t.rows[i].Key == key {
			return &t.rows[i]
		}
	}
	return nil
}

func (t *table) checkRoot(root *row) {
	root.seen = true
	here := at{show(t.n.path), t.here.object}
	if !root.IsDir() {
		t.c.find(Entry, here, "the root is no directory: mode %#o", root.Mode)
	}
	nested := root.Flags&catalog.NestedRoot != 0
	if t.n.path == "" {
		if nested || root.Parent != (catalog.PathKey{}) || root.Name != "" {
			t.c.find(Entry, here, "the repository's root has a parent, a name, or the flag of a nested catalog's root")
		}
		return
	}
	if !nested {
		t.c.find(Nested, here, "the root of a nested catalog lacks its flag")
	}
	if root.Parent != catalog.KeyOf(catalog.Parent(t.n.path)) || root.Name != base(t.n.path) {
		t.c.find(Nested, here, "the root of the nested catalog has another name or parent than its path says")
	}
}

// directory checks what d holds, pushes its sub directories, and returns their
// number and whether there is a marker.
func (t *table) directory(d dir, stack *[]dir) (subdirs uint32, marker bool) {
	last := ""
	for n, i := range t.under(d.row.Key) {
		r := &t.rows[i]
		if r.seen {
			continue
		}
		path := d.path + "/" + r.Name
		here := at{path, t.here.object}
		if r.Key != catalog.KeyOf(path) {
			t.c.find(Entry, here, "row %d: its key is not that of its path", r.ID)
			continue
		}
		if n > 0 && r.Name == last {
			t.c.find(Entry, here, "the name comes twice")
		}
		last = r.Name
		r.seen = true
		t.entry(r, here)
		switch {
		case !r.IsDir():
			if r.Name == revision.Marker {
				marker = true
			}
			t.file(r, here)
			continue
		case r.Flags&(catalog.NestedMountpoint|catalog.BindMountpoint) != 0:
			t.n.mounts[path] = &r.Entry
			if len(t.under(r.Key)) > 0 {
				t.c.find(Nested, here, "another catalog is mounted here, and this one has rows below it")
			}
		case r.Flags&catalog.NestedRoot != 0:
			t.c.find(Nested, here, "it is flagged as the root of a nested catalog and lies within one")
			fallthrough
		default:
			*stack = append(*stack, dir{r, path})
		}
		subdirs++
	}
	return subdirs, marker
}

// finishMounts matches mountpoints with the two tables of catalogs.
func (t *table) finishMounts() []catalog.Nested {
	slices.SortFunc(t.nested, func(a, b catalog.Nested) int { return strings.Compare(a.Path, b.Path) })
	registered := map[string]catalog.Flags{}
	var good []catalog.Nested
	for _, n := range t.nested {
		here := at{n.Path, t.here.object}
		mount := t.n.mounts[n.Path]
		if registered[n.Path] != 0 {
			t.c.find(Nested, here, "nested_catalogs lists it twice")
			continue
		}
		registered[n.Path] = catalog.NestedMountpoint
		switch {
		case !strings.HasPrefix(n.Path, t.n.path+"/"):
			t.c.find(Nested, here, "nested_catalogs lists it, and it is not below %s", show(t.n.path))
		case n.Hash.IsZero():
			t.c.find(Nested, here, "nested_catalogs names no catalog for it")
		case mount == nil || mount.Flags&catalog.NestedMountpoint == 0:
			t.c.find(Nested, here, "nested_catalogs lists it, and there is no mountpoint")
			good = append(good, n) // it may still be looked at
		default:
			good = append(good, n)
		}
	}
	for _, n := range t.binds {
		here := at{n.Path, t.here.object}
		if registered[n.Path] != 0 {
			t.c.find(Bind, here, "it is listed as a nested catalog and as a bind mountpoint, or twice")
		}
		registered[n.Path] |= catalog.BindMountpoint
		if mount := t.n.mounts[n.Path]; mount == nil || mount.Flags&catalog.BindMountpoint == 0 {
			t.c.find(Bind, here, "bind_mountpoints lists it, and there is no such directory")
		}
	}
	for path, mount := range t.n.mounts {
		if want := mount.Flags & (catalog.NestedMountpoint | catalog.BindMountpoint); registered[path]&want == 0 {
			t.c.find(Nested, at{path, t.here.object}, "it is a mountpoint, and no catalog is registered for it")
		}
	}
	return good
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
