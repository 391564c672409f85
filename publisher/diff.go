package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

// How a path differs between two trees.
const (
	Added   = "added"
	Missing = "removed"
	Changed = "changed"
)

// Change is a path that two trees do not have alike.
type Change struct {
	Path   string // relative to the trees' roots; "" is the root itself
	How    string // Added, Missing or Changed
	Fields []string
	// Before and After are sizes in bytes of a regular file, else 0.
	Before, After int64
}

// Difference is what diff found.
type Difference struct {
	From, To                Listed
	Added, Removed, Changed int64
	// BytesNew are the plain bytes of contents that only To has, each once:
	// what a cell that has From fetches, before compression. BytesGone are
	// those that only From has.
	BytesNew, BytesGone int64
}

// Diff compares two published trees by their listings and calls each for every
// path that differs, in the listings' order. The contents themselves are not
// read: files are the same if their SHA-256 is.
func Diff(ctx context.Context, st store.Store, tempDir string, from, to reference.Reference, each func(Change) error) (*Difference, error) {
	v, err := openView(ctx, st, tempDir)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	d := &Difference{}
	if d.From, err = v.resolve(ctx, from); err != nil {
		return nil, err
	}
	if d.To, err = v.resolve(ctx, to); err != nil {
		return nil, err
	}
	if d.From.Tree == d.To.Tree {
		return d, nil
	}
	if err := d.paths(ctx, v, each); err != nil {
		return nil, fmt.Errorf("compare %s with %s: %w", d.From.Reference, d.To.Reference, err)
	}
	return d, d.contents(ctx, v)
}

// side is one of two listings on their way past each other.
type side struct {
	r     *imagemeta.Reader
	now   imagemeta.Entry
	done  bool
	links map[uint32]string // the first name of each hard link group
}

func (v *view) side(ctx context.Context, tree string) (*side, error) {
	b, err := v.listing(ctx, tree)
	if err != nil {
		return nil, err
	}
	s := &side{r: imagemeta.NewReader(bytes.NewReader(b), imagemeta.DefaultLimits), links: map[uint32]string{}}
	return s, s.next()
}

func (s *side) next() error {
	var err error
	if s.now, err = s.r.Next(); errors.Is(err, io.EOF) {
		s.done = true
		return nil
	}
	if err == nil && s.now.Link != 0 && s.links[s.now.Link] == "" {
		s.links[s.now.Link] = s.now.Path
	}
	return err
}

// paths merges the two listings, which have the same order.
func (d *Difference) paths(ctx context.Context, v *view, each func(Change) error) error {
	a, err := v.side(ctx, d.From.Tree)
	if err != nil {
		return err
	}
	b, err := v.side(ctx, d.To.Tree)
	if err != nil {
		return err
	}
	for !a.done || !b.done {
		order := a.compare(b)
		if c, differs := d.change(order, a, b); differs {
			if err := each(c); err != nil {
				return err
			}
		}
		if order <= 0 {
			err = a.next()
		}
		if order >= 0 && err == nil {
			err = b.next()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare tells which side comes first in the listings' order, 0 if both are at
// the same path. At least one is not done.
func (s *side) compare(o *side) int {
	switch {
	case s.done:
		return 1
	case o.done:
		return -1
	}
	return imagemeta.Compare(s.now.Path, o.now.Path)
}

// change says, and counts, how the two sides differ at the path that comes
// first.
func (d *Difference) change(order int, a, b *side) (c Change, differs bool) {
	switch {
	case order < 0:
		d.Removed++
		return Change{Path: a.now.Path, How: Missing, Before: a.now.Size}, true
	case order > 0:
		d.Added++
		return Change{Path: b.now.Path, How: Added, After: b.now.Size}, true
	}
	fields := differences(a, b)
	if len(fields) == 0 {
		return Change{}, false
	}
	d.Changed++
	return Change{Path: a.now.Path, How: Changed, Fields: fields, Before: a.now.Size, After: b.now.Size}, true
}

// differences names the fields in which the entries at one path differ. Hard
// links are compared by who the first name of the group is: the numbers depend
// on what else the trees hold.
func differences(x, y *side) []string {
	a, b := &x.now, &y.now
	var fields []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"mode", a.Mode == b.Mode},
		{"uid", a.UID == b.UID},
		{"gid", a.GID == b.GID},
		{"mtime", a.MTime == b.MTime && a.Nsec == b.Nsec},
		{"size", a.Size == b.Size},
		{"content", a.Content == b.Content},
		{"target", a.Target == b.Target},
		{"device", a.Major == b.Major && a.Minor == b.Minor},
		{"xattrs", slices.EqualFunc(a.XAttrs, b.XAttrs, func(p, q imagemeta.XAttr) bool {
			return p.Name == q.Name && bytes.Equal(p.Value, q.Value)
		})},
		{"link", x.links[a.Link] == y.links[b.Link]},
	} {
		if !f.same {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// contents sums what only one of the trees has.
func (d *Difference) contents(ctx context.Context, v *view) error {
	from, err := v.objects(ctx, d.From.Tree)
	if err != nil {
		return err
	}
	to, err := v.objects(ctx, d.To.Tree)
	if err != nil {
		return err
	}
	d.BytesNew, d.BytesGone = onlyIn(to, from), onlyIn(from, to)
	return nil
}

// onlyIn sums the plain bytes of contents that a has and b has not.
func onlyIn(a, b *imagemeta.Objects) (bytes int64) {
	for id, s := range a.All() {
		if _, ok := b.Lookup(id); !ok {
			bytes += s.Size
		}
	}
	return bytes
}

// Sizes are the plain bytes of a tree's contents, each counted once however
// many files hold it.
type Sizes struct {
	Own    int64 // in no other version: about what removing this one would free
	Shared int64 // in other versions, too
}

// MeasureTrees reads the table of objects of every tree in all and returns
// their sizes by tree id. It keeps about 50 bytes in memory for each different
// content.
func MeasureTrees(ctx context.Context, st store.Store, tempDir string, all []Listed) (map[string]Sizes, error) {
	v, err := openView(ctx, st, tempDir)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	sizes, versions := map[string]*Sizes{}, map[string]int{}
	owner := map[object.ContentID]*Sizes{} // nil once a second tree has it
	for _, t := range all {
		versions[t.Tree]++
		if sizes[t.Tree] != nil {
			continue
		}
		s := &Sizes{}
		sizes[t.Tree] = s
		objects, err := v.objects(ctx, t.Tree)
		if err != nil {
			return nil, fmt.Errorf("size of %s: %w", t.Reference, err)
		}
		for id, stored := range objects.All() {
			first, met := owner[id]
			switch {
			case !met:
				owner[id] = s
				s.Own += stored.Size
				continue
			case first != nil:
				first.Own -= stored.Size
				first.Shared += stored.Size
				owner[id] = nil
			}
			s.Shared += stored.Size
		}
	}
	result := make(map[string]Sizes, len(sizes))
	for id, s := range sizes {
		if versions[id] > 1 { // the tree stays when one of its versions goes
			s.Own, s.Shared = 0, s.Own+s.Shared
		}
		result[id] = *s
	}
	return result, nil
}
