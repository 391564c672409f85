package publisher

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/publisher/revision"
)

// RemoveUntagged takes away, in one revision, the images that no tag and no
// channel leads to any more and that were published before the given time: what
// tags have left behind that moved. Older revisions keep them, as with
// [Publisher.Remove]. It returns what is gone, without References, and the
// number of the newest revision, which is a new one only if something is.
func (p *Publisher) RemoveUntagged(ctx context.Context, before time.Time) (gone []Removed, rev uint64, err error) {
	rev, err = p.edit(ctx, "remove untagged images", func(ctx context.Context, _ *head, tx *revision.Tx) (bool, error) {
		v := &view{st: p.o.Store, tx: tx}
		gone, err = v.removeUntagged(ctx, before)
		return len(gone) > 0, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("remove untagged images: %w", err)
	}
	return gone, rev, nil
}

func (v *view) removeUntagged(ctx context.Context, before time.Time) ([]Removed, error) {
	all, err := v.all(ctx)
	if err != nil {
		return nil, err
	}
	channels, err := v.channels(ctx)
	if err != nil {
		return nil, err
	}
	named, trees := map[string]bool{}, map[string]bool{}
	for _, l := range all {
		named[l.Path] = true
	}
	for _, c := range channels {
		named[c.at.Path], named[c.rolloutPath()] = true, true
	}
	images, err := v.flat(ctx)
	if err != nil {
		return nil, err
	}
	var gone []Removed
	for _, l := range all {
		trees[l.Tree] = true
	}
	for _, i := range images {
		if named[i.Path] || !i.Published.Before(before) {
			trees[i.Tree] = true
			continue
		}
		gone = append(gone, Removed{Path: i.Path, Tree: i.Tree})
	}
	for _, g := range gone {
		if err := errors.Join(v.drop(ctx, g.Path), v.drop(ctx, ownDir(imagesDir, path.Base(g.Path)))); err != nil {
			return nil, err
		}
		if trees[g.Tree] {
			continue
		}
		trees[g.Tree] = true // dropped once
		if err := errors.Join(v.drop(ctx, ownDir(treesDir, g.Tree)), v.drop(ctx, ownDir(notesDir, g.Tree))); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// flat lists the flattened images, tagged or not. References are empty.
func (v *view) flat(ctx context.Context) ([]Listed, error) {
	shelves, err := v.below(ctx, flatDir)
	if err != nil {
		return nil, err
	}
	var all []Listed
	for _, s := range shelves {
		rows, err := v.below(ctx, flatDir+"/"+s.Name)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			t := treeOf(&rows[i])
			if t.tree == "" || !strings.HasPrefix(rows[i].Name, s.Name) {
				continue // DUCC's, or a stranger's
			}
			all = append(all, Listed{
				Path: flatDir + "/" + s.Name + "/" + rows[i].Name, Tree: t.tree, Source: t.source,
				Entries: t.entries, Bytes: t.bytes, Published: t.published,
			})
		}
	}
	return all, nil
}

// below lists the directories in a directory, none if it is not there.
func (v *view) below(ctx context.Context, dir string) ([]catalog.Entry, error) {
	if e, ok, err := v.tx.Lookup(ctx, dir); err != nil || !ok || !e.IsDir() {
		return nil, err
	}
	rows, err := v.tx.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	dirs := rows[:0]
	for _, e := range rows {
		if e.IsDir() {
			dirs = append(dirs, e)
		}
	}
	return dirs, nil
}
