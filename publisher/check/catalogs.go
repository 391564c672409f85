package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/stored"
)

// node is a catalog. What it keeps of its rows is what is compared across
// catalogs.
type node struct {
	nodeKey
	ok            bool // it could be read
	schema        float64
	schemaRev     int
	revision      uint64
	self, subtree catalog.Counters // as stated
	root          *catalog.Entry   // nil if there is none
	mounts        map[string]*catalog.Entry
	children      []*node // in the order of nested_catalogs

	tree  object.ContentID // mounted here; zero if none of ours
	inner bool             // inside a tree, below its root's catalog
	files map[string]*catalog.Entry
	links []linkRow
}

// nodeKey names a catalog under its path, with the size that is stated: the
// same catalog at another path, or of another size, is wrong there.
type nodeKey struct {
	path string
	hash object.Hash
	size int64
}

// linkRow is a symbolic link outside all trees.
type linkRow struct{ path, target string }

// start is a revision with its walked catalogs.
type start struct {
	root
	node *node
}

// walk checks the catalogs of roots, each once, and returns them.
func (c *checker) walk(ctx context.Context, roots []root) []start {
	var wg sync.WaitGroup
	starts := make([]start, len(roots))
	for i, r := range roots {
		starts[i] = start{r, c.visit(ctx, &wg, nodeKey{"", r.hash, r.size}, false)}
	}
	wg.Wait()
	return starts
}

// visit starts a catalog and those below it, unless that has happened.
func (c *checker) visit(ctx context.Context, wg *sync.WaitGroup, key nodeKey, inner bool) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[key]; n != nil {
		return n
	}
	n := &node{nodeKey: key, inner: inner, mounts: map[string]*catalog.Entry{}}
	c.nodes[key] = n
	wg.Go(func() {
		c.workers <- struct{}{}
		nested := c.catalog(ctx, n)
		<-c.workers
		for _, child := range nested {
			n.children = append(n.children, c.visit(ctx, wg, nodeKey{child.Path, child.Hash, child.Size}, n.inner || !n.tree.IsZero()))
		}
	})
	return n
}

// catalog checks one catalog by itself and returns those nested in it that can
// be gone on with.
func (c *checker) catalog(ctx context.Context, n *node) []catalog.Nested {
	if ctx.Err() != nil {
		return nil
	}
	here := at{show(n.path), name(n.hash, object.Catalog)}
	file, _, err := stored.FetchCatalog(ctx, c.o.Store, c.dir, n.hash, n.size)
	if err != nil {
		if ctx.Err() == nil {
			c.unreadable(Catalog, here, err)
		}
		return nil
	}
	defer os.Remove(file)
	if err := rollback(file); err != nil {
		c.find(Catalog, here, "%v", err)
	}
	r, err := catalog.OpenReader(file)
	if err != nil {
		c.find(Catalog, here, "%v", trim(err, file))
		return nil
	}
	defer r.Close() //nolint:errcheck // read only
	c.progress.Catalogs.Add(1)
	if r.RootPrefix() != n.path {
		c.find(Catalog, here, "it says that it is the catalog of %s", show(r.RootPrefix()))
		return nil
	}
	n.schema, n.schemaRev = r.Schema()
	n.revision = r.Revision()
	t := &table{c: c, n: n, here: here, temp: file}
	if err := t.load(ctx, r); err != nil {
		if ctx.Err() == nil {
			c.find(Catalog, here, "%v", trim(err, file))
		}
		return nil
	}
	n.ok = true
	return t.check()
}

// rollback checks that a database is in rollback journal format: a single file
// that is complete (CVMFS-FORMAT 0.5).
func rollback(file string) error {
	f, err := os.Open(file) // #nosec G304 -- our temporary file
	if err != nil {
		return err
	}
	defer f.Close()
	var b [20]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return errors.New("it is too short for a database")
	}
	if b[18] != 1 || b[19] != 1 {
		return fmt.Errorf("it is not in rollback journal format: bytes 18 and 19 are %d and %d", b[18], b[19])
	}
	return nil
}

// trim takes the name of our temporary file out of a message.
func trim(err error, file string) string {
	return strings.ReplaceAll(strings.ReplaceAll(err.Error(), file+": ", ""), file, "the catalog")
}

// relations checks what two catalogs say of each other, from s down.
func (c *checker) relations(s start, seen map[*node]bool) {
	if s.node.ok && s.revision != s.node.revision {
		by := "the manifest"
		if s.tag != "" {
			by = "the tag " + s.tag
		}
		c.find(Catalog, at{"/", name(s.hash, object.Catalog)}, "it is revision %d, %s says %d", s.node.revision, by, s.revision)
	}
	c.related(s.node, seen)
}

func (c *checker) related(n *node, seen map[*node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	whole := n.ok
	var sum catalog.Counters
	for _, child := range n.children {
		c.related(child, seen)
		if !child.ok {
			whole = false
			continue
		}
		sum = sum.Add(child.self).Add(child.subtree)
		if mount := n.mounts[child.path]; mount != nil && child.root != nil {
			c.sameRow(at{child.path, name(child.hash, object.Catalog)}, mount, child.root)
		}
	}
	if whole && n.schema >= 2 {
		for _, d := range n.subtree.Differences(sum.Plain(n.schemaRev)) {
			c.find(Counters, at{show(n.path), name(n.hash, object.Catalog)}, "subtree_%s, the sum of the catalogs below it", d)
		}
	}
}

// sameRow compares the two rows of a transition point (CVMFS-FORMAT 2.7).
func (c *checker) sameRow(here at, mount, root *catalog.Entry) {
	m, r := *mount, *root
	m.Flags &^= catalog.NestedMountpoint
	r.Flags &^= catalog.NestedRoot
	for _, d := range differences(&m, &r) {
		c.find(Nested, here, "the directory's row in the nested catalog and the one above it disagree: %s", d)
	}
}
