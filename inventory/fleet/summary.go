package fleet

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/rootstock-cf/rootstock/reference"
)

// Count is how many containers of one cell stand on one version by way of one
// reference.
type Count struct {
	Ref        reference.Reference // as asked for
	Version    string
	Tree       string // empty where only a count is known
	Containers int
	Behind     int // of them, on another tree than Ref leads to
}

// Use is a version in use, over all cells that answered.
type Use struct {
	Ref        reference.Reference
	Version    string
	Tree       string
	Containers int
	Cells      int
	// Behind are the containers that would stand on another tree if they
	// were made now.
	Behind int
	Oldest time.Time // since when the oldest of them runs; zero if not known
}

// Summary is what a fleet runs.
type Summary struct {
	Uses       []Use
	Cells      int // that answered in full
	Containers int
	Behind     int
	// Silent are cells that did not answer, or not for all their
	// repositories.
	Silent []Cell
}

// Complete reports whether every cell answered for everything.
func (s *Summary) Complete() bool { return len(s.Silent) == 0 }

// Leads are where references lead, by the newest revision that any cell shows.
type Leads map[reference.Reference]Lead

// LeadsOf collects them.
func LeadsOf(cells []Cell) Leads {
	all := Leads{}
	for i := range cells {
		for _, l := range cells[i].Leads {
			if old, ok := all[l.Ref]; !ok || l.Revision > old.Revision {
				all[l.Ref] = l
			}
		}
	}
	return all
}

// Of is where references lead for one cell. While a version is rolled out cells
// differ; then a cell's own word counts, if it shows the newest revision.
func (l Leads) Of(c *Cell) Leads {
	own := maps.Clone(l)
	for _, lead := range c.Leads {
		if lead.Revision >= l[lead.Ref].Revision {
			lead.Other = ""
			own[lead.Ref] = lead
		}
	}
	return own
}

// Behind reports whether c would stand on another tree if it were made now. It
// is false where that is not known, as for either side of a rollout, and where
// its version was taken away without another in its place.
func (l Leads) Behind(c *Container) bool {
	lead, ok := l[c.Ref]
	return ok && !lead.Gone && lead.leaves(c.Tree)
}

// leaves reports whether a container on tree would get another one.
func (l Lead) leaves(tree string) bool {
	return l.Tree != tree && (l.Other == "" || l.Other != tree)
}

// Summarize counts who runs what.
func Summarize(cells []Cell) *Summary {
	s := &Summary{}
	leads := LeadsOf(cells)
	at := map[Count]int{}
	for i := range cells {
		c := &cells[i]
		if incomplete := c.Incomplete(); incomplete != nil {
			s.Silent = append(s.Silent, Cell{Name: c.Name, Source: c.Source, Err: incomplete})
		} else {
			s.Cells++
		}
		for _, n := range c.count(leads) {
			s.Containers += n.Containers
			s.Behind += n.Behind
			key := Count{Ref: n.Ref, Version: n.Version, Tree: n.Tree}
			j, ok := at[key]
			if !ok {
				j = len(s.Uses)
				at[key] = j
				s.Uses = append(s.Uses, Use{Ref: n.Ref, Version: n.Version, Tree: n.Tree})
			}
			u := &s.Uses[j]
			u.Containers, u.Behind, u.Cells = u.Containers+n.Containers, u.Behind+n.Behind, u.Cells+1
		}
		for _, one := range c.Containers {
			u := &s.Uses[at[Count{Ref: one.Ref, Version: one.Version, Tree: one.Tree}]]
			if u.Oldest.IsZero() || one.Since.Before(u.Oldest) {
				u.Oldest = one.Since
			}
		}
	}
	slices.SortFunc(s.Uses, func(a, b Use) int {
		return cmp.Or(cmp.Compare(a.Ref.String(), b.Ref.String()), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Tree, b.Tree))
	})
	return s
}

// Incomplete is why a cell may run containers that it does not name; nil if it
// answered for everything.
func (c *Cell) Incomplete() error {
	if c.Err != nil {
		return c.Err
	}
	for _, m := range c.Missing {
		return &missingError{m}
	}
	return nil
}

type missingError struct{ m Missing }

func (e *missingError) Error() string {
	return "it cannot say what runs on " + e.m.Repository + ": " + e.m.Reason
}

// Sum counts a cell's containers, and those behind.
func (c *Cell) Sum(leads Leads) (containers, behind int) {
	for _, n := range c.count(leads) {
		containers, behind = containers+n.Containers, behind+n.Behind
	}
	return containers, behind
}

// count counts a cell's containers in the order in which they first come.
func (c *Cell) count(leads Leads) []Count {
	leads = leads.Of(c)
	all := slices.Clone(c.counts)
	at := map[Count]int{}
	for i := range c.Containers {
		one := &c.Containers[i]
		key := Count{Ref: one.Ref, Version: one.Version, Tree: one.Tree}
		j, ok := at[key]
		if !ok {
			j = len(all)
			at[key] = j
			all = append(all, key)
		}
		all[j].Containers++
		if leads.Behind(one) {
			all[j].Behind++
		}
	}
	return all
}
