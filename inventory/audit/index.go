package audit

import (
	"slices"

	"github.com/rootstock-cf/rootstock/inventory"
)

// index finds the advisories that speak of a package by its name: there may be
// 100,000 of them, and a million packages.
type index struct {
	byName map[string][]entry
	// ecosystems are those each advisory speaks of; a gap matters to it only
	// if it is in one of them.
	ecosystems []map[inventory.Ecosystem]bool
}

type entry struct {
	advisory int
	affected *Affected
}

func newIndex(advisories []Advisory) *index {
	x := &index{byName: map[string][]entry{}, ecosystems: make([]map[inventory.Ecosystem]bool, len(advisories))}
	for n := range advisories {
		x.ecosystems[n] = map[inventory.Ecosystem]bool{}
		for i := range advisories[n].Affected {
			a := &advisories[n].Affected[i]
			x.ecosystems[n][a.Ecosystem] = true
			names := []string{a.Name}
			if a.Ecosystem == inventory.PyPI || a.Ecosystem == "" {
				names = append(names, inventory.NormalPyPI(a.Name))
			}
			for _, name := range slices.Compact(names) {
				x.byName[name] = append(x.byName[name], entry{n, a})
			}
		}
	}
	return x
}

// examine returns what each advisory finds in t.
func (x *index) examine(t *Tree) map[int]Finding {
	found := map[int]Finding{}
	for i := range t.Inventory.Packages {
		p := &t.Inventory.Packages[i]
		name := p.Name
		if p.Ecosystem == inventory.PyPI {
			name = inventory.NormalPyPI(name)
		}
		x.match(found, t, p, name, p.Version)
		if p.Source == "" && p.SourceVersion == "" || p.Ecosystem != inventory.Deb && p.Ecosystem != inventory.APK {
			continue
		}
		source, v := p.Source, p.SourceVersion
		if source == "" {
			source = p.Name
		}
		if v == "" {
			v = p.Version
		}
		if source != name || v != p.Version {
			x.match(found, t, p, source, v)
		}
	}
	for _, g := range t.Inventory.NotRead {
		for n, e := range x.ecosystems {
			if e[""] || e[g.Ecosystem] {
				f := found[n]
				f.Gaps = append(f.Gaps, g)
				found[n] = f
			}
		}
	}
	return found
}

func (x *index) match(found map[int]Finding, t *Tree, p *inventory.Package, name, v string) {
	for _, e := range x.byName[name] {
		a := e.affected
		if a.Ecosystem != "" && a.Ecosystem != p.Ecosystem || !a.distroMatches(t.Inventory.Distro) {
			continue
		}
		f := found[e.advisory]
		in, err := a.affects(p.Ecosystem, v)
		switch {
		case err != nil:
			f.Unknown = append(f.Unknown, Hit{*p, err.Error()})
		case !in || slices.ContainsFunc(f.Hits, func(h Hit) bool { return h.PURL == p.PURL && h.Path == p.Path }):
			continue
		default:
			f.Hits = append(f.Hits, Hit{Package: *p})
		}
		found[e.advisory] = f
	}
}
