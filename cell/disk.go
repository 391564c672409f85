package cell

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/client/usage"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
)

// Would is the parameter of CallDisk: a tree that may come, or nothing.
type Would struct {
	Ref string `json:"ref,omitempty"`
}

// Disk is the result of CallDisk: what the cache's bytes are for.
type Disk struct {
	Directory string `json:"directory"`
	Quota     int64  `json:"quota"` // bytes; 0 for none
	usage.Totals
	Trees []DiskTree `json:"trees"` // that containers stand on
	Would *WouldAdd  `json:"would,omitempty"`
}

// DiskTree is what one tree has in the cache.
type DiskTree struct {
	ID         string   `json:"tree"`
	Refs       []string `json:"refs"` // as containers asked for it
	Versions   []string `json:"versions"`
	Containers int      `json:"containers"`
	// Counted is false for a tree that is not shown as an image: which
	// contents are its is not known then, and they count as reclaimable.
	Counted bool `json:"counted"`
	usage.Tree
}

// WouldAdd is what a tree would take. Sizes are bytes.
type WouldAdd struct {
	Ref      string `json:"ref"`
	Tree     string `json:"tree"`
	Bytes    int64  `json:"bytes"`    // of its contents, each once
	Adds     int64  `json:"adds"`     // of them, not here yet
	Contents int    `json:"contents"` // that are not here yet
}

func (c *Cell) disk(ctx context.Context, p Would) (Disk, error) {
	d := Disk{Directory: c.o.CacheDir, Quota: c.o.Quota, Trees: []DiskTree{}}
	var trees map[object.ContentID]usage.Tree
	if c.images != nil {
		var err error
		if d.Totals, trees, err = c.images.Usage(ctx); err != nil {
			return Disk{}, err
		}
	} else {
		s := c.cache.Stats()
		d.Totals = usage.Totals{Bytes: s.Bytes, Pinned: s.Pinned, Reclaimable: s.Bytes - s.Pinned}
	}
	at := map[string]int{}
	for _, m := range c.mounted() {
		for _, one := range m.pins.all() {
			id := one.Tree
			if one.Image {
				id = one.image()
			}
			i, ok := at[id]
			if !ok {
				i = len(d.Trees)
				at[id] = i
				d.Trees = append(d.Trees, diskTree(id, trees))
			}
			t := &d.Trees[i]
			t.Containers++
			t.Refs = with(t.Refs, m.whole(one.Ref).String())
			if one.Version != "" {
				t.Versions = with(t.Versions, one.Version)
			}
		}
	}
	if p.Ref == "" {
		return d, nil
	}
	var err error
	d.Would, err = c.would(ctx, p.Ref)
	return d, err
}

func diskTree(id string, trees map[object.ContentID]usage.Tree) DiskTree {
	t := DiskTree{ID: id, Refs: []string{}, Versions: []string{}}
	if id, err := object.ParseContentID(id); err == nil {
		t.Tree = trees[id]
		_, t.Counted = trees[id]
	}
	return t
}

// with adds s to a list that does not have it.
func with(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// would looks what a tree lacks.
func (c *Cell) would(ctx context.Context, text string) (*WouldAdd, error) {
	at, err := c.locate(ctx, text)
	if err != nil {
		return nil, err
	}
	raw, err := at.m.repo.XAttr(ctx, at.node, attrTree)
	if errors.Is(err, view.ErrNoXAttr) {
		return nil, fmt.Errorf("%w: %s is no tree that was published as one", control.ErrInvalid, text)
	}
	if err != nil {
		return nil, kind(err)
	}
	id, err := object.ParseContentID(string(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", control.ErrInvalid, text, err)
	}
	lacks, err := at.m.repo.Absent(ctx, id)
	if err != nil {
		return nil, kind(fmt.Errorf("%s: %w", text, err))
	}
	return &WouldAdd{Ref: text, Tree: id.String(), Bytes: lacks.Bytes, Adds: lacks.Absent, Contents: lacks.Contents}, nil
}
