package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/spill"
	"github.com/rootstock-cf/rootstock/publisher/stored"
)

// attrTree names a tree in the xattrs of its directory
// (docs/design/repository.md).
const attrTree = "user.rootstock.tree"

// markSize is a mark: the digest, so that marks sort as object names do, and
// the algorithm. The kind of object is not part of it: bulk object and chunk of
// one digest stay and go together (CVMFS-FORMAT 3.5).
const markSize = object.DigestSize + 1

// marks are the digests in use.
type marks struct {
	*spill.Sorter
	// catalogs that were walked, and roots and other objects that the
	// reflog may keep. Both are few: revisions times what changed in each.
	catalogs map[object.Hash]bool
	roots    map[object.Hash]bool
	trees    map[object.ContentID]bool
}

func newMarks(dir string, memory int) *marks {
	return &marks{
		Sorter:   spill.New(dir, markSize, memory),
		catalogs: map[object.Hash]bool{}, roots: map[object.Hash]bool{}, trees: map[object.ContentID]bool{},
	}
}

func markOf(h object.Hash) [markSize]byte {
	var m [markSize]byte
	copy(m[:], h.Digest[:])
	m[object.DigestSize] = byte(h.Algorithm)
	return m
}

func (m *marks) add(h object.Hash) error {
	b := markOf(h)
	return m.Add(b[:])
}

// keeps reports whether the reflog still lists h.
func (m *marks) keeps(h object.Hash) bool { return m.roots[h] }

// mark marks everything that is in use (CVMFS-FORMAT 3.5), and what leases
// name.
func (c *collector) mark(ctx context.Context, log []reflog.Ref) error {
	m := c.head.manifest
	tags, err := c.tags(ctx)
	if err != nil {
		return err
	}
	// The head and what has a name must be whole. Whatever an older revision
	// misses, an earlier collection took.
	if err := c.keep(ctx, m.RootCatalog, m.CatalogSize, true); err != nil {
		return err
	}
	for _, t := range tags {
		if err := c.keep(ctx, t.Root, t.Size, true); err != nil {
			return fmt.Errorf("tag %s: %w", t.Name, err)
		}
	}
	if err := c.markTrunk(ctx, log); err != nil {
		return err
	}
	if err := c.markLeases(ctx, log); err != nil {
		return err
	}
	return c.markAux(log)
}

// markTrunk keeps the newest revisions, and those that were the newest at some
// time since c.since: what is younger, and the youngest that is not. The chain
// of predecessors is followed, and the reflog read, since after a rollback
// neither leads everywhere.
func (c *collector) markTrunk(ctx context.Context, log []reflog.Ref) error {
	times := map[object.Hash]int64{}
	for _, ref := range log {
		times[ref.Hash] = ref.Timestamp
	}
	h := c.head.manifest.RootCatalog
	for n := 1; !h.IsZero(); n++ {
		prev, modified, err := c.ancestor(ctx, h)
		if errors.Is(err, fs.ErrNotExist) && n > 1 {
			break // collected earlier
		} else if err != nil {
			return err
		}
		if err := c.keep(ctx, h, 0, n == 1); err != nil {
			return err
		}
		at, ok := times[h]
		if !ok {
			at = modified
		}
		if n >= c.o.KeepRevisions && at < c.since.Unix() {
			break
		}
		h = prev
	}
	// Publishing lists the revision it replaces anew, so times come twice: of
	// those that are too old, all of the youngest time stay.
	limit, ended := int64(0), false
	for _, ref := range rootsOf(log) {
		if ended && ref.Timestamp < limit {
			break
		}
		if err := c.keep(ctx, ref.Hash, 0, false); err != nil {
			return err
		}
		if ref.Timestamp < c.since.Unix() {
			limit, ended = ref.Timestamp, true
		}
	}
	return nil
}

// rootsOf returns the root catalogs of a reflog, youngest first.
func rootsOf(log []reflog.Ref) []reflog.Ref {
	var roots []reflog.Ref
	for _, ref := range log {
		if ref.Type == object.Catalog {
			roots = append(roots, ref)
		}
	}
	slices.SortStableFunc(roots, func(a, b reflog.Ref) int { return cmp.Compare(b.Timestamp, a.Timestamp) })
	return roots
}

// ancestor reads which root catalog came before h, and when h was made.
func (c *collector) ancestor(ctx context.Context, h object.Hash) (object.Hash, int64, error) {
	db, err := stored.OpenCatalog(ctx, c.st, c.dir, h, 0)
	if err != nil {
		return object.Hash{}, 0, err
	}
	defer db.Close()                                                          //nolint:errcheck // read only, and temporary
	modified, _ := strconv.ParseInt(db.Properties()["last_modified"], 10, 64) //nolint:errcheck // unknown is long ago
	return db.Previous(), modified, nil
}

// keep marks a revision. One whose root catalog is gone is passed over, unless
// it must be whole.
func (c *collector) keep(ctx context.Context, root object.Hash, size int64, whole bool) error {
	if c.marks.roots[root] {
		return nil
	}
	err := c.walk(ctx, root, size, whole)
	if errors.Is(err, fs.ErrNotExist) && !whole {
		return nil
	} else if err != nil {
		return fmt.Errorf("revision with root catalog %s: %w", root, err)
	}
	c.marks.roots[root] = true
	c.r.Revisions++
	return nil
}

// walk marks a catalog, what it refers to and all below it. A catalog that
// cannot be read ends the run: nobody knows what it refers to.
func (c *collector) walk(ctx context.Context, h object.Hash, size int64, whole bool) error {
	if c.marks.catalogs[h] {
		return nil
	}
	db, err := stored.OpenCatalog(ctx, c.st, c.dir, h, size)
	if err != nil {
		return err
	}
	nested, err := c.markCatalog(ctx, db)
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("catalog %s: %w; rootstock check says what is wrong", object.Path(h, object.Catalog), err)
	}
	c.r.Catalogs++
	c.o.Progress.Catalogs.Add(1)
	complete := true
	for _, n := range nested {
		if n.Hash.IsZero() {
			continue
		}
		err := c.walk(ctx, n.Hash, n.Size, whole)
		if errors.Is(err, fs.ErrNotExist) && !whole {
			complete = false
			continue
		} else if err != nil {
			return fmt.Errorf("%s: %w", n.Path, err)
		}
	}
	// Marked as walked only if complete, so that a revision that must be
	// whole finds out.
	c.marks.catalogs[h] = complete
	return c.marks.add(h)
}

func (c *collector) markCatalog(ctx context.Context, db *stored.Catalog) ([]catalog.Nested, error) {
	err := db.Scan(ctx, func(row catalog.Row) error {
		if row.IsDir() {
			c.markTree(&row)
			return nil
		}
		if row.Flags&catalog.External != 0 {
			return nil
		}
		if !row.Hash.IsZero() {
			if err := c.marks.add(row.Hash); err != nil {
				return err
			}
		}
		for _, chunk := range row.Chunks {
			if err := c.marks.add(chunk.Hash); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return db.Nested()
}

func (c *collector) markTree(row *catalog.Row) {
	if id, ok := treeOf(row); ok {
		c.marks.trees[id] = true
	}
}

// treeOf returns the id of the tree mounted at row.
func treeOf(row *catalog.Row) (id object.ContentID, ok bool) {
	if row.Flags&(catalog.NestedMountpoint|catalog.NestedRoot) == 0 {
		return id, false
	}
	for _, x := range row.XAttrs {
		if x.Name == attrTree {
			id, err := object.ParseContentID(string(x.Value))
			return id, err == nil
		}
	}
	return id, false
}

// markAux keeps certificate, history and metainfo of the manifest, and those
// that are not older than the oldest revision kept.
func (c *collector) markAux(log []reflog.Ref) error {
	oldest := c.now.Unix()
	for _, ref := range log {
		if ref.Type == object.Catalog && c.marks.roots[ref.Hash] {
			oldest = min(oldest, ref.Timestamp)
		}
	}
	keep := aux(c.head.manifest)
	for _, ref := range log {
		if ref.Type != object.Catalog && ref.Timestamp >= oldest {
			keep = append(keep, ref.Hash)
		}
	}
	for _, h := range keep {
		if h.IsZero() {
			continue
		}
		c.marks.roots[h] = true
		if err := c.marks.add(h); err != nil {
			return err
		}
	}
	return nil
}
