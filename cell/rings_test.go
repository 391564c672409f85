package cell_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/reference/rollout"
)

// rolling is a repository whose channel points to 1, with that record.
func rolling(record string) testrepo.Tree {
	all := published("1", "1", "2")
	for name, tree := range map[string]string{"1": "old", "2": "new"} {
		e := testrepo.Nested()
		e.XAttrs = []catalog.XAttr{{Name: "user.rootstock.tree", Value: []byte(tree)}}
		all["/rootfs/demo/"+name] = e
	}
	all["/channels/rootfs/demo/stable.json"] = testrepo.Text(record)
	return all
}

func record(t *testing.T, change func(*rollout.State)) string {
	t.Helper()
	s := &rollout.State{
		Format: rollout.Format, Version: "2", Tree: "new", Target: "../../../rootfs/demo/2", Seed: "seed", Open: 1,
		Rings: []rollout.Ring{{Name: "canary", Share: rollout.Whole, Labels: map[string]string{"zone": "z1"}}},
	}
	change(s)
	b, err := json.Marshal(map[string]any{"history": []int{}, rollout.Field: s})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What a record says decides; one that says nothing sensible keeps no container
// from being made, and moves none.
func TestRings(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(rolling("{}"))
	o := options(t, repo)
	o.CellID, o.Labels = "cell-7", map[string]string{"zone": "z1"}
	daemon, c, _ := start(t, o)
	stable := "cvmfs://" + repo.Name + "/rootfs/demo:stable"
	for _, step := range []struct{ name, record, version, ring, other string }{
		{"no rollout", "{}", "1", "", ""},
		{"its label", record(t, func(*rollout.State) {}), "2", "canary", "old"},
		{"another label", record(t, func(s *rollout.State) { s.Rings[0].Labels["zone"] = "z2" }), "1", "", "new"},
		{"a second ring", record(t, func(s *rollout.State) {
			s.Rings[0].Labels["zone"], s.Open = "z2", 2
			s.Rings = append(s.Rings, rollout.Ring{Name: "all", Share: rollout.Whole})
		}), "2", "all", "old"},
		{"of a later release", record(t, func(s *rollout.State) { s.Format = 9 }), "1", "", ""},
		{"damaged", `{"rollout":`, "1", "", ""},
		{"too large", strings.Repeat(" ", rollout.MaxRecord) + "{}", "1", "", ""},
		{"to nowhere", record(t, func(s *rollout.State) { s.Target = "../../../rootfs/demo/3" }), "1", "", "new"},
		// It may not lead out of the repository either.
		{"to the machine's root", record(t, func(s *rollout.State) { s.Target = strings.Repeat("../", 50) + "etc" }), "1", "", "new"},
	} {
		repo.Publish(rolling(step.record))
		if _, err := daemon.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := lower(t, c, stable, "h")
		if l.Version != step.version || l.Tree != map[string]string{"1": "old", "2": "new"}[step.version] {
			t.Errorf("%s: version %s, tree %s", step.name, l.Version, l.Tree)
		}
		d := report(t, c)
		if d.ID != "cell-7" || d.Labels["zone"] != "z1" || len(d.Leads) != 1 {
			t.Fatalf("%s: %+v", step.name, d)
		}
		if lead := d.Leads[0]; lead.Ring != step.ring || lead.Other != step.other || lead.Version != step.version {
			t.Errorf("%s: %+v", step.name, lead)
		}
	}
}

// Ends are counted by tree, buildpacks and what was there before not twice.
func TestLives(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(rolling("{}"))
	_, c, _ := start(t, options(t, repo))
	stable := "cvmfs://" + repo.Name + "/rootfs/demo:stable"
	for _, handle := range []string{"a", "a+0", "b"} {
		lower(t, c, stable, handle)
	}
	for _, handle := range []string{"a", "a+0", "none"} {
		if err := c.Release(t.Context(), handle); err != nil {
			t.Fatal(err)
		}
	}
	d := report(t, c)
	if len(d.Lives) != 1 || d.Lives[0].Ended != 1 || d.Lives[0].Ref.String() != stable || d.Lives[0].Tree != "old" {
		t.Errorf("%+v", d.Lives)
	}
}
