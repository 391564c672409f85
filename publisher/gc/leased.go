package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/stored"
)

// markLeases keeps what containers run. A catalog is marked by itself. For a
// tree, the youngest revision that has it is kept whole: the next collection
// must be able to find it again, and must not meet half a revision.
func (c *collector) markLeases(ctx context.Context, log []reflog.Ref) error {
	if c.o.Leases == nil {
		return nil
	}
	for h := range c.o.Leases.Catalogs {
		err := c.walk(ctx, h, 0, false)
		if errors.Is(err, fs.ErrNotExist) {
			c.note("a container runs catalog %s, which the repository does not have", h)
		} else if err != nil {
			return fmt.Errorf("leased catalog: %w", err)
		}
	}
	want := map[object.ContentID]bool{}
	for id := range c.o.Leases.Trees {
		if !c.marks.trees[id] {
			want[id] = true
		}
	}
	s := searcher{c: c, seen: map[object.Hash]bool{}}
	for _, ref := range rootsOf(log) {
		if len(want) == 0 {
			return nil
		}
		if c.marks.roots[ref.Hash] {
			continue
		}
		has, err := s.search(ctx, ref.Hash, want)
		if err != nil {
			return fmt.Errorf("look for leased trees: %w", err)
		}
		if !has {
			continue
		}
		if err := c.keep(ctx, ref.Hash, 0, false); err != nil {
			return err
		}
		maps.DeleteFunc(want, func(id object.ContentID, _ bool) bool { return c.marks.trees[id] })
	}
	missing := slices.SortedFunc(maps.Keys(want), func(a, b object.ContentID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range missing {
		c.note("a container runs tree %s, which the repository does not have", id)
	}
	return nil
}

func (c *collector) note(format string, args ...any) {
	n := fmt.Sprintf(format, args...)
	c.r.Notes = append(c.r.Notes, n)
	c.o.Log.Warn(n, "repository", c.head.manifest.Name)
}

// searcher looks for trees in revisions that are not kept. It looks into a
// catalog once: what it holds of no interest in one revision, it holds of no
// interest in all.
type searcher struct {
	c    *collector
	seen map[object.Hash]bool
}

// search reports whether a tree of want is mounted in the catalog h or below.
func (s *searcher) search(ctx context.Context, h object.Hash, want map[object.ContentID]bool) (bool, error) {
	if s.seen[h] {
		return false, nil
	}
	s.seen[h] = true
	db, err := stored.OpenCatalog(ctx, s.c.st, s.c.dir, h, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // collected earlier
	} else if err != nil {
		return false, err
	}
	found := false
	err = db.Scan(ctx, func(row catalog.Row) error {
		if id, ok := treeOf(&row); ok && want[id] {
			found = true
		}
		return nil
	})
	var nested []catalog.Nested
	if err == nil {
		nested, err = db.Nested()
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return false, fmt.Errorf("catalog %s: %w", object.Path(h, object.Catalog), err)
	}
	for _, n := range nested {
		if found || n.Hash.IsZero() {
			break
		}
		if found, err = s.search(ctx, n.Hash, want); err != nil {
			return false, err
		}
	}
	return found, nil
}
