package audit

import (
	"cmp"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/version"
)

// How says what became of a package.
type How string

// What can become of a package. Changed is a version that is another one and
// cannot be compared.
const (
	Added   How = "added"
	Removed How = "removed"
	Up      How = "up"
	Down    How = "down"
	Changed How = "changed"
)

// Change is a package that two trees do not have alike.
type Change struct {
	How       How
	Ecosystem inventory.Ecosystem
	Name      string
	From, To  string
}

// pack is what makes two packages the same one at different versions.
type pack struct {
	ecosystem inventory.Ecosystem
	name      string
}

// Diff lists the packages that differ from a to b, by ecosystem and name. Where
// a tree has several versions of a package, those that both have are left out
// and the others paired in their order.
func Diff(a, b inventory.Inventory) []Change {
	before, after := versionsOf(a), versionsOf(b)
	names := map[pack]bool{}
	for n := range before {
		names[n] = true
	}
	for n := range after {
		names[n] = true
	}
	var all []Change
	for n := range names {
		all = append(all, differ(n, before[n], after[n])...)
	}
	slices.SortFunc(all, func(x, y Change) int {
		return cmp.Or(
			strings.Compare(string(x.Ecosystem), string(y.Ecosystem)), strings.Compare(x.Name, y.Name),
			strings.Compare(x.From, y.From), strings.Compare(x.To, y.To),
		)
	})
	return all
}

func versionsOf(v inventory.Inventory) map[pack][]string {
	all := map[pack][]string{}
	for _, p := range v.Packages {
		n := pack{p.Ecosystem, p.Name}
		if !slices.Contains(all[n], p.Version) {
			all[n] = append(all[n], p.Version)
		}
	}
	return all
}

func differ(n pack, before, after []string) (all []Change) {
	gone := slices.DeleteFunc(slices.Clone(before), func(v string) bool { return slices.Contains(after, v) })
	come := slices.DeleteFunc(slices.Clone(after), func(v string) bool { return slices.Contains(before, v) })
	order := func(x, y string) int {
		c, err := version.Compare(schemes[n.ecosystem], x, y)
		if err != nil {
			return strings.Compare(x, y)
		}
		return c
	}
	// Versions that cannot be compared would make the order no order; they
	// are few, and pairs of them only look odd.
	slices.SortStableFunc(gone, order)
	slices.SortStableFunc(come, order)
	for i := range max(len(gone), len(come)) {
		c := Change{Ecosystem: n.ecosystem, Name: n.name}
		switch {
		case i >= len(gone):
			c.How, c.To = Added, come[i]
		case i >= len(come):
			c.How, c.From = Removed, gone[i]
		default:
			c.From, c.To = gone[i], come[i]
			c.How = direction(n.ecosystem, c.From, c.To)
		}
		all = append(all, c)
	}
	return all
}

func direction(e inventory.Ecosystem, from, to string) How {
	c, err := version.Compare(schemes[e], from, to)
	switch {
	case err != nil || c == 0:
		return Changed
	case c < 0:
		return Up
	}
	return Down
}
