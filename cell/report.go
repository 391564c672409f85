package cell

import (
	"context"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
)

// Report is what the cell tells the fleet of itself: the containers of all
// repositories, and the repositories whose containers it cannot tell.
func (c *Cell) Report(ctx context.Context) (fleet.Document, error) {
	d := fleet.Document{
		Cell: c.o.CellName, ID: c.o.CellID, Labels: c.o.Labels, Taken: c.o.Clock().UTC(), Leads: []fleet.Lead{}, Containers: []fleet.Container{},
	}
	c.mu.RLock()
	mounts, ended := slices.Clone(c.mounts), slices.Clone(c.ended)
	for name, err := range c.failed {
		// One whose mount ended still has its pins.
		if !slices.ContainsFunc(ended, func(m *mounted) bool { return m.o.Name == name }) {
			d.Missing = append(d.Missing, fleet.Missing{Repository: name, Reason: "it is not mounted: " + err.Error()})
		}
	}
	c.mu.RUnlock()
	slices.SortFunc(d.Missing, func(a, b fleet.Missing) int { return strings.Compare(a.Repository, b.Repository) })
	var handles []control.Container
	for _, m := range append(mounts, ended...) {
		pins := m.pins.all()
		d.Lives = append(d.Lives, m.lives.with(pins, m.whole, d.Taken)...)
		for _, p := range pins {
			handles = append(handles, p.Container)
			one := fleet.Container{
				Handle: p.Handle, Ref: m.whole(p.Ref), Tree: p.Tree, Version: p.Version, Since: p.Since, Droplet: c.looked.of(&p),
			}
			if p.ofCatalog() {
				one.Catalog = p.Catalog.String()
			}
			d.Containers = append(d.Containers, one)
		}
	}
	for _, m := range mounts {
		d.Leads = append(d.Leads, m.leadsOf(ctx, m.pins.list())...)
	}
	known, err := c.apps.of(ctx, handles)
	if err != nil {
		d.Garden = err.Error()
	}
	for i := range d.Containers {
		d.Containers[i].App = known[d.Containers[i].Handle]
	}
	return d, ctx.Err()
}
