package fleet_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/reference/rollout"
)

func canary(share int) *rollout.State {
	return &rollout.State{
		Format: rollout.Format, Version: "2", Tree: "2", Target: "x", Seed: "s", Open: 1,
		Rings:  []rollout.Ring{{Name: "canary", Share: share}, {Name: "zone", Share: rollout.Whole, Labels: map[string]string{"zone": "z2"}}},
		HaltOn: []rollout.Condition{{Metric: rollout.Restarts, Factor: 2}},
	}
}

// Whoever asks counts the cells in each ring as the cells count themselves.
func TestProgress(t *testing.T) {
	s := canary(2500)
	stable := ref(t, demo+":stable")
	var all []fleet.Cell
	in, zone := 0, 0
	for i := range 200 {
		c := fleet.Cell{Name: fmt.Sprint(i), ID: fmt.Sprintf("cell-%d", i), Labels: map[string]string{"zone": fmt.Sprintf("z%d", i%4)}}
		lead := fleet.Lead{Ref: stable, Tree: "1", Other: "2", Revision: 9}
		if ring, ok := s.In(rollout.Cell{ID: c.ID, Labels: c.Labels}); ok {
			in++
			lead.Tree, lead.Other, lead.Ring = "2", "1", ring
		} else if i%4 == 2 {
			zone++
		}
		c.Leads = []fleet.Lead{lead}
		c.Containers = []fleet.Container{
			container(t, "a", demo+":stable", lead.Tree, fleet.App{}), container(t, "b", demo+"@2", "2", fleet.App{}),
		}
		c.Lives = []fleet.Life{{Ref: stable, Tree: lead.Tree, Ended: 1, Seconds: 3600}, {Ref: ref(t, demo+"@2"), Tree: "2", Ended: 99, Seconds: 1}}
		all = append(all, c)
	}
	all = append(all, fleet.Cell{Name: "old"}, fleet.Cell{Name: "silent", Err: errors.New("no answer")})
	p := fleet.ProgressOf(all, stable, s)
	if p.Cells != 201 || p.Unknowing != 1 || p.In != in || p.Joining != zone || p.Lagging != 0 || p.Rings[0] != in || p.Rings[1] != zone || p.Rings[2] != 200-in-zone || in == 0 || zone == 0 {
		t.Errorf("%+v, %d in, %d in the zone", p, in, zone)
	}
	if p.New != (fleet.Side{Containers: in, Ended: in, Seconds: int64(in) * 3600}) || p.Old.Containers != 200-in || p.New.PerHour() != 1 {
		t.Errorf("%+v", p)
	}
	// One in an open ring that says it follows elsewhere has yet to see it.
	for i := range all[:200] {
		if _, follows := s.In(rollout.Cell{ID: all[i].ID, Labels: all[i].Labels}); follows {
			seen := all[i].Leads
			all[i].Leads = []fleet.Lead{{Ref: stable, Tree: "1", Revision: 8}}
			if p := fleet.ProgressOf(all, stable, s); p.Lagging != 1 || p.In != in {
				t.Errorf("one lags: %+v", p)
			}
			all[i].Leads = seen
			break
		}
	}
	// Cells on both sides have what their cell would give them again.
	if sum := fleet.Summarize(all); sum.Behind != 0 {
		t.Errorf("%d are behind", sum.Behind)
	}
	// One that has not seen the newest revision is not called behind on either.
	late := fleet.Cell{Name: "late", ID: "late", Leads: []fleet.Lead{{Ref: stable, Tree: "1", Revision: 8}}, Containers: []fleet.Container{
		container(t, "a", demo+":stable", "1", fleet.App{}), container(t, "b", demo+":stable", "2", fleet.App{}), container(t, "c", demo+":stable", "0", fleet.App{}),
	}}
	if sum := fleet.Summarize(append(all, late)); sum.Behind != 1 {
		t.Errorf("%d are behind", sum.Behind)
	}
	// In a ring and on the old tree: a restart would move it, and elsewhere not.
	for i := range all[:200] {
		all[i].Containers[0].Tree = "1"
	}
	out, leads, err := fleet.Behind(all, stable)
	var moved int
	for _, o := range out {
		if o.Follows {
			moved++
		}
	}
	if err != nil || moved != in || len(leads) != 2 {
		t.Errorf("%d of %d would move, %+v, %v", moved, len(out), leads, err)
	}
}

func TestStop(t *testing.T) {
	s := canary(500)
	for name, one := range map[string]struct {
		now, was fleet.Side
		stops    bool
	}{
		"nothing runs":          {},
		"as before":             {fleet.Side{Ended: 10, Seconds: 3600}, fleet.Side{Ended: 10, Seconds: 3600}, false},
		"twice":                 {fleet.Side{Ended: 20, Seconds: 3600}, fleet.Side{Ended: 10, Seconds: 3600}, false},
		"more than twice":       {fleet.Side{Ended: 21, Seconds: 3600}, fleet.Side{Ended: 10, Seconds: 3600}, true},
		"many more that run":    {fleet.Side{Ended: 21, Seconds: 36000}, fleet.Side{Ended: 10, Seconds: 3600}, false},
		"too few to tell":       {fleet.Side{Ended: 2, Seconds: 10}, fleet.Side{Ended: 1, Seconds: 36000}, false},
		"nothing ended before":  {fleet.Side{Ended: 3, Seconds: 36000}, fleet.Side{Seconds: 36000}, true},
		"ended at once":         {fleet.Side{Ended: 3}, fleet.Side{Ended: 10, Seconds: 3600}, true},
		"nothing to compare to": {fleet.Side{Ended: 3, Seconds: 36000}, fleet.Side{}, true},
	} {
		p := fleet.Progress{New: one.now, Old: one.was}
		if why := p.Stop(s); (why != "") != one.stops || one.stops && !strings.HasPrefix(why, "restarts>2x: ") {
			t.Errorf("%s: %q", name, why)
		}
	}
	s.HaltOn = nil
	p := fleet.Progress{New: fleet.Side{Ended: 100, Seconds: 1}}
	if why := p.Stop(s); why != "" {
		t.Errorf("without a condition: %s", why)
	}
}
