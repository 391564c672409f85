// Package audit joins what trees hold with who runs them: a question about
// packages, such as an advisory's, the inventories of all published trees, and
// the containers of all cells go in; out come the affected trees, the versions
// and channels that lead to them, the containers on them, and the version to
// move to.
//
// What is not known is part of the answer: trees without an inventory, files
// that were not read, versions that cannot be compared, cells that did not
// answer, containers on trees that are not published here. "Clean" is only said
// where none of these stands against it.
package audit

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/reference"
)

// Version is a name under which a tree is published.
type Version struct {
	Reference reference.Reference // with Version set
	Published time.Time
	Channels  []string // that lead to it
}

// Tree is a published tree and what it holds.
type Tree struct {
	ID        string
	Versions  []Version
	Inventory *inventory.Inventory // nil if none was noted
	// Droplet says that it is no published tree but what was put on top of
	// one in a container: ID is its digest, and it has no versions.
	Droplet bool
}

// Hit is a package in question.
type Hit struct {
	inventory.Package
	// Reason is why its version could not be compared; empty if it is
	// affected.
	Reason string
}

// Running is a container and its cell.
type Running struct {
	Cell string
	fleet.Container
}

// Clean is the newest version of a name that is not affected.
type Clean struct {
	Name    string // KIND/NAME
	Version string // empty if there is none
}

// Finding is a tree with packages in question.
type Finding struct {
	Advisory   *Advisory
	Tree       *Tree
	Hits       []Hit // that are affected
	Unknown    []Hit // that could not be compared
	Gaps       []inventory.Gap
	Clean      []Clean
	Containers []Running
	// Opened is how many of the affected contents were opened on a cell, by
	// its name. A cell that is not in it may have opened them unseen. See
	// [Report.AskOpened].
	Opened map[string]int
}

// Affected reports whether the tree is known to be affected, rather than not
// known to be clean.
func (f *Finding) Affected() bool { return len(f.Hits) > 0 }

// Report is the answer.
type Report struct {
	// Findings are affected trees and trees that may be, in the order of the
	// advisories and of the trees' first names.
	Findings []Finding
	// NotNoted are trees without an inventory.
	NotNoted []*Tree
	// NotRead are droplets of which no cell says what they consist of. They
	// stand against the report if it was asked for what droplets may have.
	NotRead []*Tree
	// Silent are cells that did not answer, or not for all repositories.
	Silent []fleet.Cell
	// Strangers are containers on trees that are not among those given.
	Strangers []Running
	Cells     int // that answered
	Running   int // containers on them

	asksDroplets bool
}

// Affected reports whether a tree is affected.
func (r *Report) Affected() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Affected() })
}

// Complete reports whether nothing stands against believing the report.
func (r *Report) Complete() bool {
	return len(r.NotNoted) == 0 && (len(r.NotRead) == 0 || !r.asksDroplets) && len(r.Silent) == 0 && len(r.Strangers) == 0 &&
		!slices.ContainsFunc(r.Findings, func(f Finding) bool { return len(f.Unknown) > 0 || len(f.Gaps) > 0 })
}

// Run answers the advisories for these trees and cells.
func Run(advisories []Advisory, trees []Tree, cells []fleet.Cell) *Report {
	r := &Report{asksDroplets: inDroplets(advisories)}
	byTree := r.join(trees, cells)
	x := newIndex(advisories)
	found := make([][]Finding, len(advisories)) // per advisory
	for i := range trees {
		t := &trees[i]
		if t.Inventory == nil && t.Droplet {
			r.NotRead = append(r.NotRead, t)
			continue
		}
		if t.Inventory == nil {
			r.NotNoted = append(r.NotNoted, t)
			continue
		}
		for n, f := range x.examine(t) {
			f.Advisory, f.Tree, f.Containers = &advisories[n], t, byTree[t.ID]
			found[n] = append(found[n], f)
		}
	}
	for _, all := range found {
		slices.SortFunc(all, func(a, b Finding) int {
			return cmp.Or(strings.Compare(a.Tree.name(), b.Tree.name()), strings.Compare(a.Tree.ID, b.Tree.ID))
		})
		suggest(all, trees)
		r.Findings = append(r.Findings, all...)
	}
	return r
}

// inDroplets reports whether an advisory speaks of what may be in droplets:
// distributions' packages are not.
func inDroplets(advisories []Advisory) bool {
	for i := range advisories {
		for _, a := range advisories[i].Affected {
			switch a.Ecosystem {
			case inventory.Deb, inventory.APK, inventory.RPM:
			default:
				return true
			}
		}
	}
	return false
}

// join files containers under their trees and droplets.
func (r *Report) join(trees []Tree, cells []fleet.Cell) map[string][]Running {
	known := make(map[string]bool, len(trees))
	for i := range trees {
		known[trees[i].ID] = true
	}
	by := map[string][]Running{}
	for _, c := range cells {
		if err := c.Incomplete(); err != nil {
			r.Silent = append(r.Silent, fleet.Cell{Name: c.Name, Source: c.Source, Err: err})
		}
		if c.Err != nil {
			continue
		}
		r.Cells++
		r.Running += len(c.Containers)
		for _, container := range c.Containers {
			one := Running{c.Name, container}
			if container.Droplet != "" {
				by[container.Droplet] = append(by[container.Droplet], one)
			}
			if known[container.Tree] {
				by[container.Tree] = append(by[container.Tree], one)
			} else {
				r.Strangers = append(r.Strangers, one)
			}
		}
	}
	return by
}

// name is the tree's first name.
func (t *Tree) name() string {
	if len(t.Versions) == 0 {
		return ""
	}
	return t.Versions[0].Reference.String()
}

// suggest names, for each finding of one advisory, the newest version of each
// of its names that has no finding and was read.
func suggest(all []Finding, trees []Tree) {
	if len(all) == 0 {
		return
	}
	bad := map[string]bool{}
	for i := range all {
		bad[all[i].Tree.ID] = true
	}
	type candidate struct {
		version string
		when    time.Time
	}
	best := map[string]candidate{}
	for i := range trees {
		t := &trees[i]
		if t.Inventory == nil || bad[t.ID] {
			continue
		}
		for _, v := range t.Versions {
			name := nameOf(v.Reference)
			if b, ok := best[name]; !ok || cmp.Or(v.Published.Compare(b.when), strings.Compare(v.Reference.Version, b.version)) > 0 {
				best[name] = candidate{v.Reference.Version, v.Published}
			}
		}
	}
	for i := range all {
		seen := map[string]bool{}
		for _, v := range all[i].Tree.Versions {
			if name := nameOf(v.Reference); !seen[name] {
				seen[name] = true
				all[i].Clean = append(all[i].Clean, Clean{name, best[name].version})
			}
		}
	}
}

func nameOf(r reference.Reference) string { return string(r.Kind) + "/" + r.Name }
