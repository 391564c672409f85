package testrepo

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/object"
)

// Tree is a repository's content by absolute path. Directories that are not
// mentioned exist where something lies in them.
type Tree map[string]Entry

// Entry is one file, directory or whatever Mode says.
type Entry struct {
	catalog.Entry
	Data []byte
	// Chunk cuts the data into pieces of that many bytes, if not zero.
	Chunk int
	// Nested gives a directory a catalog of its own.
	Nested bool
	// Foreign attaches that catalog to a nested directory instead of its
	// own: what a lying publisher would do.
	Foreign object.Hash
	// Bind attaches the root catalog of that hash to a directory.
	Bind object.Hash
	// Keep leaves Hash and Chunks as they are and stores no object.
	Keep bool
}

const mtime = 1_700_000_000 // UNIX seconds, of everything

func entry(mode uint32) Entry {
	return Entry{Entry: catalog.Entry{Mode: mode, MTime: mtime, MTimeNS: catalog.NoNanoseconds, Links: 1}}
}

// Bytes is a regular file.
func Bytes(data []byte) Entry {
	e := entry(catalog.ModeRegular | 0o644)
	e.Data = data
	return e
}

// Text is a regular file.
func Text(s string) Entry { return Bytes([]byte(s)) }

// Chunks is a regular file in pieces of size bytes.
func Chunks(data []byte, size int) Entry {
	e := Bytes(data)
	e.Chunk = size
	return e
}

// Link is a symbolic link.
func Link(target string) Entry {
	e := entry(catalog.ModeSymlink | 0o777)
	e.Symlink, e.Size = target, int64(len(target))
	return e
}

// Dir is a directory.
func Dir() Entry {
	e := entry(catalog.ModeDir | 0o755)
	e.Size = 4096
	return e
}

// Nested is a directory with a catalog of its own.
func Nested() Entry {
	e := Dir()
	e.Nested = true
	return e
}

// Publish makes tree the next revision and returns its root catalog's hash. A
// nested catalog whose part of the tree did not change keeps its hash.
func (r *Repo) Publish(tree Tree) object.Hash {
	r.t.Helper()
	next := r.head
	next.Revision++
	next.Published = mtime + int64(next.Revision)
	b := builder{r: r, t: r.t, dir: r.t.TempDir(), tree: complete(tree), revision: next.Revision}
	root, _ := b.build("")
	next.RootCatalog, next.CatalogSize = root.Hash, root.Size
	r.Sign(next)
	return root.Hash
}

// Tag gives the newest revision a name, in a new manifest of the same
// revision.
func (r *Repo) Tag(names ...string) {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "history")
	w, err := history.Create(path, r.Name)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range names {
		err := w.Add(history.Tag{
			Name: name, Root: r.head.RootCatalog, Revision: r.head.Revision, Timestamp: r.head.Published, Size: r.head.CatalogSize,
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	if err := w.Finish(r.head.History); err != nil {
		r.t.Fatal(err)
	}
	m := r.head
	m.History = r.PutObject(object.Zlib, object.History, readFile(r.t, path))
	r.Sign(m)
}

// complete adds the directories on the way and the markers that nested
// catalogs have.
func complete(tree Tree) Tree {
	all := maps.Clone(tree)
	if all == nil {
		all = Tree{}
	}
	for path, e := range tree {
		if e.Nested {
			all[path+"/.cvmfscatalog"] = Bytes(nil)
		}
		for path != "" {
			path = catalog.Parent(path)
			if _, ok := all[path]; !ok {
				all[path] = Dir()
			}
		}
	}
	if _, ok := all[""]; !ok {
		all[""] = Dir()
	}
	for path, e := range all {
		if !e.IsDir() {
			continue
		}
		e.Links = 2
		for below, child := range all {
			if below != "" && catalog.Parent(below) == path && child.IsDir() {
				e.Links++
			}
		}
		all[path] = e
	}
	return all
}

type builder struct {
	r        *Repo
	t        testing.TB
	dir      string
	tree     Tree
	revision uint64
}

// build stores the catalog rooted at path, and those below it.
func (b *builder) build(path string) (n catalog.Nested, all catalog.Counters) {
	b.t.Helper()
	file := filepath.Join(b.dir, object.SHA1.Sum([]byte(path)).String())
	w, err := catalog.Create(file, catalog.CreateOptions{RootPrefix: path})
	if err != nil {
		b.t.Fatal(err)
	}
	root := b.tree[path]
	if path != "" {
		root.Flags |= catalog.NestedRoot
	}
	b.add(w, path, root)
	b.fill(w, path)
	rev := catalog.Revision{Number: 1, LastModified: mtime}
	if path == "" {
		rev.Number, rev.Previous = b.revision, b.r.head.RootCatalog
	}
	self, subtree, err := w.Finish(rev)
	if err != nil {
		b.t.Fatal(err)
	}
	b.bind(file, path)
	plain := readFile(b.t, file)
	n = catalog.Nested{Path: path, Size: int64(len(plain)), Hash: b.r.PutObject(object.Zlib, object.Catalog, plain)}
	return n, self.Add(subtree)
}

// fill adds what lies in the directory path.
func (b *builder) fill(w *catalog.Writer, path string) {
	b.t.Helper()
	for _, below := range slices.Sorted(maps.Keys(b.tree)) {
		if below == "" || catalog.Parent(below) != path {
			continue
		}
		e := b.tree[below]
		if !e.Nested {
			b.add(w, below, e)
			if e.IsDir() && e.Bind.IsZero() {
				b.fill(w, below)
			}
			continue
		}
		e.Flags |= catalog.NestedMountpoint
		b.add(w, below, e)
		n, counters := b.build(below)
		if !e.Foreign.IsZero() {
			n.Hash, n.Size = e.Foreign, 0
		}
		if err := w.SetNested(n); err != nil {
			b.t.Fatal(err)
		}
		w.AddSubtree(counters)
	}
}

// bind writes the bind mountpoints of the catalog at root, which publishers of
// ours never make.
func (b *builder) bind(file, root string) {
	b.t.Helper()
	conn, err := sqlite.OpenConn(file, sqlite.OpenReadWrite)
	if err != nil {
		b.t.Fatal(err)
	}
	for path, e := range b.tree {
		if e.Bind.IsZero() || b.home(path) != root {
			continue
		}
		err := sqlitex.Execute(conn, "INSERT INTO bind_mountpoints (path, sha1, size) VALUES (?, ?, 0)",
			&sqlitex.ExecOptions{Args: []any{path, e.Bind.String()}})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	if err := conn.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// home is the root of the catalog that has the row of path.
func (b *builder) home(path string) string {
	for path != "" {
		path = catalog.Parent(path)
		if b.tree[path].Nested {
			return path
		}
	}
	return ""
}

func (b *builder) add(w *catalog.Writer, path string, e Entry) {
	b.t.Helper()
	e.Name = path[strings.LastIndexByte(path, '/')+1:]
	if e.IsRegular() && !e.Keep {
		e.Size, e.Compression, e.Algorithm = int64(len(e.Data)), b.r.o.Compression, b.r.o.Algorithm
		if e.Chunk == 0 {
			e.Hash = b.r.PutObject(e.Compression, object.Bulk, e.Data)
		} else {
			e.Flags |= catalog.Chunked
			for off := 0; off < len(e.Data); off += e.Chunk {
				piece := e.Data[off:min(off+e.Chunk, len(e.Data))]
				h := b.r.PutObject(e.Compression, object.Partial, piece)
				e.Chunks = append(e.Chunks, catalog.Chunk{Offset: int64(off), Size: int64(len(piece)), Hash: h})
			}
		}
	}
	if !e.Bind.IsZero() {
		e.Flags |= catalog.BindMountpoint
	}
	if err := w.Add(path, &e.Entry); err != nil {
		b.t.Fatalf("add %q: %v", path, err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
