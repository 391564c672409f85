package profile

import (
	"slices"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// Merge adds what other knows of the same tree: a content counts from the
// earliest time that it was opened at. A cell sees only what it had to fetch, so
// one document alone is never the whole. Process types over MaxProcesses are
// left out.
func (d *Document) Merge(other Document) {
	d.Profiles = slices.Clone(d.Profiles) // copies of d keep theirs
	for _, p := range other.Profiles {
		i := slices.IndexFunc(d.Profiles, func(x Profile) bool { return x.Process == p.Process })
		switch {
		case i >= 0:
			d.Profiles[i].Opens = append(slices.Clone(d.Profiles[i].Opens), p.Opens...)
		case len(d.Profiles) < MaxProcesses:
			d.Profiles = append(d.Profiles, p)
		}
	}
	d.sort()
}

// Keep leaves only contents that keep says true of, and no profile without any.
func (d *Document) Keep(keep func(object.ContentID) bool) {
	var left []Profile
	for _, p := range d.Profiles {
		p.Opens = slices.DeleteFunc(slices.Clone(p.Opens), func(o Open) bool { return !keep(o.Content) })
		if len(p.Opens) > 0 {
			left = append(left, p)
		}
	}
	d.Profiles = left
}

// Equal reports whether two documents say the same.
func (d *Document) Equal(other *Document) bool {
	return d.Tree == other.Tree && slices.EqualFunc(d.Profiles, other.Profiles, func(a, b Profile) bool {
		return a.Process == b.Process && slices.Equal(a.Opens, b.Opens)
	})
}

// Order is every content once, in the order of the time at which any process
// type opened it: when a container is made, nobody knows yet what it will run.
func (d *Document) Order() []object.ContentID {
	var all []Open
	for _, p := range d.Profiles {
		all = append(all, p.Opens...)
	}
	all = ordered(all)
	ids := make([]object.ContentID, len(all))
	for i := range all {
		ids[i] = all[i].Content
	}
	return ids
}

// Inherit says what d means for another version of its tree: of each content
// that was opened, what lies at the same paths there.
func (d *Document) Inherit(entries []imagemeta.Entry, next imagemeta.TreeID, nextEntries []imagemeta.Entry) Document {
	wanted := map[object.ContentID]bool{}
	for _, id := range d.Order() {
		wanted[id] = true
	}
	byPath := map[string]object.ContentID{}
	for i := range entries {
		if e := &entries[i]; e.IsRegular() && wanted[e.Content] {
			byPath[e.Path] = e.Content
		}
	}
	became := map[object.ContentID][]object.ContentID{}
	for i := range nextEntries {
		e := &nextEntries[i]
		if !e.IsRegular() || e.Size == 0 {
			continue
		}
		// The same content may lie at many paths and become one thing here
		// and another there.
		if was, ok := byPath[e.Path]; ok && !slices.Contains(became[was], e.Content) {
			became[was] = append(became[was], e.Content)
		}
	}
	out := Document{Tree: next}
	for _, p := range d.Profiles {
		one := Profile{Process: p.Process}
		for _, o := range p.Opens {
			for _, id := range became[o.Content] {
				one.Opens = append(one.Opens, Open{id, o.Millis})
			}
		}
		if len(one.Opens) > 0 {
			out.Profiles = append(out.Profiles, one)
		}
	}
	out.sort()
	return out
}
