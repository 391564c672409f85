package check

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/publisher/stored"
)

// treeKey is what makes a check of a tree another one: its catalog under its
// path, and the two files beside it.
type treeKey struct {
	node           nodeKey
	listing, table string
}

// mounted is a tree under one of its paths.
type mounted struct {
	c              *checker
	n              *node
	here           at
	dir            string // of its two files
	listing, table *catalog.Entry
}

// trees checks every tree of a revision, unless the same was checked in
// another.
func (c *checker) trees(ctx context.Context, s start, checked map[treeKey]bool) {
	files := map[string]*catalog.Entry{}
	var nodes []*node
	each(s.node, func(n *node) {
		for path, e := range n.files {
			files[path] = e
		}
		if !n.tree.IsZero() && n.ok {
			nodes = append(nodes, n)
		}
	})
	var todo []*mounted
	for _, n := range nodes {
		id := n.tree.String()
		m := &mounted{c: c, n: n, here: at{path: n.path}, dir: treesDir + id[:2] + "/" + id}
		m.listing, m.table = files[m.dir+"/listing"], files[m.dir+"/objects"]
		key := treeKey{n.nodeKey, sourceOf(m.listing), sourceOf(m.table)}
		if checked[key] {
			continue
		}
		checked[key] = true
		c.progress.Trees.Add(1)
		todo = append(todo, m)
	}
	c.each(ctx, len(todo), func(i int) { todo[i].check(ctx) })
	c.images(ctx, files, nodes)
}

// each calls f for n and every catalog below it.
func each(n *node, f func(*node)) {
	f(n)
	for _, child := range n.children {
		each(child, f)
	}
}

func sourceOf(e *catalog.Entry) string {
	if e == nil {
		return ""
	}
	return content(e)
}

// check compares a tree's listing, table and catalog.
func (m *mounted) check(ctx context.Context) {
	entries, ok := m.readListing(ctx)
	if !ok {
		return
	}
	table, ok := m.readTable(ctx)
	if !ok {
		return
	}
	if !m.covers(entries, table) {
		return
	}
	m.attributes(entries)
	m.contents(ctx, table)
	m.compare(ctx, entries, table)
}

func (m *mounted) readListing(ctx context.Context) ([]imagemeta.Entry, bool) {
	here := at{path: m.dir + "/listing"}
	if m.listing == nil {
		m.c.find(Listing, m.here, "there is no listing of it at %s", here.path)
		return nil, false
	}
	raw, err := m.c.file(ctx, m.listing, imagemeta.DefaultLimits.Bytes)
	if err != nil {
		m.c.unreadable(Listing, here, err)
		return nil, false
	}
	if id := object.ContentOf(raw); id != m.n.tree {
		m.c.find(Listing, here, "it hashes to %s: it is not the listing of the tree at %s", id, m.n.path)
		return nil, false
	}
	entries, _, err := imagemeta.Decode(bytes.NewReader(raw), imagemeta.DefaultLimits)
	if err != nil {
		m.c.find(Listing, here, "%v", err)
		return nil, false
	}
	return entries, true
}

func (m *mounted) readTable(ctx context.Context) (*imagemeta.Objects, bool) {
	here := at{path: m.dir + "/objects"}
	if m.table == nil {
		m.c.find(Table, m.here, "there is no table of its objects at %s", here.path)
		return nil, false
	}
	raw, err := m.c.file(ctx, m.table, imagemeta.DefaultLimits.Bytes)
	if err != nil {
		m.c.unreadable(Table, here, err)
		return nil, false
	}
	table, err := imagemeta.OpenObjects(raw)
	if err != nil {
		m.c.find(Table, here, "%v", err)
		return nil, false
	}
	return table, true
}

// covers checks that the table has the listing's contents and no others.
func (m *mounted) covers(entries []imagemeta.Entry, table *imagemeta.Objects) bool {
	here := at{path: m.dir + "/objects"}
	used := map[object.ContentID]bool{}
	covered := true
	for i := range entries {
		e := &entries[i]
		if !e.IsRegular() || used[e.Content] {
			continue
		}
		used[e.Content] = true
		s, ok := table.Lookup(e.Content)
		switch {
		case !ok:
			m.c.find(Table, here, "it lacks content %s, of %q", e.Content, e.Path)
			covered = false
		case s.Size != e.Size:
			m.c.find(Table, here, "content %s has %d bytes, %q has %d", e.Content, s.Size, e.Path, e.Size)
		}
	}
	if extra := table.Len() - len(used); extra > 0 && covered {
		m.c.find(Table, here, "it has %d contents that the tree does not", extra)
	}
	return covered
}

// attributes checks what the tree's directory says of it.
func (m *mounted) attributes(entries []imagemeta.Entry) {
	var sum int64
	linked := map[uint32]bool{}
	for i := range entries {
		if e := &entries[i]; e.IsRegular() && (e.Link == 0 || !linked[e.Link]) {
			sum += e.Size
			linked[e.Link] = true
		}
	}
	for _, x := range m.n.root.XAttrs {
		var want int64
		switch x.Name {
		case attrPrefix + "entries":
			want = int64(len(entries))
		case attrPrefix + "bytes":
			want = sum
		default:
			continue
		}
		if got := string(x.Value); got != strconv.FormatInt(want, 10) {
			m.c.find(Tree, m.here, "%s says %q, the listing %d", x.Name, got, want)
		}
	}
}

// contents asks for what the table says of each object. Contents in several
// chunks are read here and now, since their name is over all of them.
func (m *mounted) contents(ctx context.Context, table *imagemeta.Objects) {
	if m.c.o.NoContent {
		return
	}
	path := m.dir + "/objects"
	for id, s := range table.All() {
		if ctx.Err() != nil {
			return
		}
		if s.Chunks == nil {
			m.c.want(want{s.Hash, object.Bulk, s.Compression, s.Size, id}, path)
			continue
		}
		m.c.mu.Lock()
		seen := m.c.contents[id]
		m.c.contents[id] = true
		m.c.mu.Unlock()
		if !seen {
			m.c.chunkedContent(ctx, id, s, path)
		}
	}
}

func (c *checker) chunkedContent(ctx context.Context, id object.ContentID, s imagemeta.Stored, path string) {
	sum := sha256.New()
	for _, chunk := range s.Chunks {
		w := want{hash: chunk.Hash, typ: object.Partial, compression: s.Compression, size: chunk.Size}
		if err := c.decode(ctx, sum, w); err != nil {
			if ctx.Err() == nil {
				// The rows that name it report it, if there are any.
				c.want(w, path)
			}
			return
		}
		c.mu.Lock()
		c.chunks[chunkKey{w.hash, w.compression, w.size}] = true
		c.mu.Unlock()
	}
	if got := object.ContentID(sum.Sum(nil)); got != id {
		c.find(Content, at{path: path}, "%d chunks hold content %s, the table says %s", len(s.Chunks), got, id)
	}
}

// compare holds the tree's catalogs against the rows that its listing and its
// table give.
func (m *mounted) compare(ctx context.Context, entries []imagemeta.Entry, table *imagemeta.Objects) {
	type expected struct {
		catalog.Entry
		path string
		seen bool
	}
	var ours []catalog.XAttr
	for _, x := range m.n.root.XAttrs {
		if strings.HasPrefix(x.Name, attrPrefix) {
			ours = append(ours, x)
		}
	}
	rows := make([]expected, 0, len(entries))
	byKey := make(map[catalog.PathKey]int, len(entries))
	err := revision.Rows(m.n.path, entries, table.Lookup, ours, func(path string, e *catalog.Entry) error {
		byKey[catalog.KeyOf(path)] = len(rows)
		rows = append(rows, expected{Entry: *e, path: path})
		return nil
	})
	if err != nil {
		m.c.find(Tree, m.here, "%v", err)
		return
	}
	whole := true
	each(m.n, func(n *node) {
		if !n.ok {
			whole = false
			return
		}
		err := m.scan(ctx, n, func(r *catalog.Row) {
			i, ok := byKey[r.Key]
			if !ok {
				if r.Name != revision.Marker || r.Parent != catalog.KeyOf(n.path) {
					m.c.find(Tree, m.here, "the catalog at %s has %q, which the listing has not", n.path, r.Name)
				}
				return
			}
			rows[i].seen = true
			const structure = catalog.NestedMountpoint | catalog.NestedRoot
			got, want := r.Entry, rows[i].Entry
			got.Flags &^= structure
			want.Flags &^= structure
			for _, d := range differences(&got, &want) {
				m.c.find(Tree, at{path: rows[i].path}, "catalog and listing disagree: %s", d)
			}
		})
		if err != nil {
			whole = false // it has been reported
		}
	})
	if !whole || ctx.Err() != nil {
		return
	}
	for i := range rows {
		if !rows[i].seen {
			m.c.find(Tree, at{path: rows[i].path}, "the listing has it, the catalog has not")
		}
	}
}

// scan calls f for the sound rows of a catalog that was checked before.
func (m *mounted) scan(ctx context.Context, n *node, f func(*catalog.Row)) error {
	file, _, err := stored.FetchCatalog(ctx, m.c.o.Store, m.c.dir, n.hash, 0)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	r, err := catalog.OpenReader(file)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read only
	bad := false
	_, err = r.Audit(ctx, func(r *catalog.Row, wrong error) error {
		if wrong != nil {
			bad = true
			return nil
		}
		f(r)
		return nil
	})
	if err == nil && bad {
		err = errors.New("it has rows that are wrong")
	}
	return err
}

// file reads a file of our own whole.
func (c *checker) file(ctx context.Context, e *catalog.Entry, limit int64) ([]byte, error) {
	if e.Size > limit {
		return nil, fmt.Errorf("it has %d bytes, more than %d", e.Size, limit)
	}
	parts := []want{{hash: e.Hash, typ: object.Bulk, compression: e.Compression, size: e.Size}}
	if e.Flags&catalog.Chunked != 0 {
		parts = parts[:0]
		for _, chunk := range e.Chunks {
			parts = append(parts, want{hash: chunk.Hash, typ: object.Partial, compression: e.Compression, size: chunk.Size})
		}
	}
	var b bytes.Buffer
	for _, w := range parts {
		if err := c.decode(ctx, &b, w); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// sortedPaths returns the keys of a map in order.
func sortedPaths[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for p := range m {
		all = append(all, p)
	}
	sort.Strings(all)
	return all
}
