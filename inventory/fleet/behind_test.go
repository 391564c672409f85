package fleet_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/reference"
)

func ref(t testing.TB, text string) reference.Reference {
	t.Helper()
	r, err := reference.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const demo = "cvmfs://t.example.org/rootfs/demo"

func container(t testing.TB, handle, text, tree string, app fleet.App) fleet.Container {
	return fleet.Container{Handle: handle, Ref: ref(t, text), Tree: tree, Version: tree, App: app}
}

// Two cells of different revisions: the newer one says where a channel leads.
func cells(t testing.TB) []fleet.Cell {
	lead := func(text, tree string, revision uint64) fleet.Lead {
		return fleet.Lead{Ref: ref(t, text), Version: tree, Tree: tree, Revision: revision}
	}
	return []fleet.Cell{
		{
			Name: "new", Leads: []fleet.Lead{lead(demo+":stable", "2", 9), lead(demo+":edge", "3", 9), lead(demo+"@1", "1", 9), {Ref: ref(t, demo+"@0"), Gone: true, Revision: 9}},
			Containers: []fleet.Container{
				container(t, "a", demo+":stable", "1", fleet.App{GUID: "app-2", Workload: "app"}),
				container(t, "b", demo+":stable", "2", fleet.App{GUID: "app-1"}),
				container(t, "c", demo+"@1", "1", fleet.App{GUID: "app-3"}),
				container(t, "d", demo+"@0", "0", fleet.App{GUID: "app-4"}),
			},
		},
		{
			Name: "old", Leads: []fleet.Lead{lead(demo+":stable", "1", 8)},
			Containers: []fleet.Container{
				container(t, "e", demo+":stable", "1", fleet.App{GUID: "app-2"}),
				container(t, "f", demo+":stable", "1", fleet.App{GUID: "task-1", Workload: "task"}),
				container(t, "g", demo+":stable", "1", fleet.App{}),
				container(t, "h", demo+":stable", "1", fleet.App{GUID: "app-0"}),
				container(t, "i", "cvmfs://t.example.org/rootfs/else", "1", fleet.App{GUID: "app-5"}),
			},
		},
	}
}

func TestSummarize(t *testing.T) {
	all := cells(t)
	begin := time.Unix(1700000000, 0)
	for i := range all {
		for j := range all[i].Containers {
			all[i].Containers[j].Since = begin.Add(time.Duration((j+2)%3*10+i) * time.Hour)
		}
	}
	s := fleet.Summarize(append(all, fleet.Cell{Name: "gone", Err: errors.New("no answer")}))
	if s.Cells != 2 || s.Containers != 9 || s.Behind != 5 || s.Complete() || s.Silent[0].Name != "gone" {
		t.Errorf("%+v", s)
	}
	u := s.Uses[0]
	if !u.Oldest.Equal(begin.Add(time.Hour)) {
		t.Errorf("the oldest is of %v", u.Oldest)
	}
	if u.Ref != ref(t, demo+":stable") || u.Tree != "1" || u.Containers != 5 || u.Cells != 2 || u.Behind != 5 {
		t.Errorf("%+v", u)
	}
	if len(s.Uses) != 5 {
		t.Errorf("%+v", s.Uses)
	}
}

func TestBehind(t *testing.T) {
	out, leads, err := fleet.Behind(cells(t), ref(t, "rootfs/demo:stable"))
	if err != nil || len(leads) != 1 || leads[0].Tree != "2" {
		t.Fatalf("%v, %v", leads, err)
	}
	var got []string
	for _, o := range out {
		text := o.Cell + "/" + o.Handle
		if !o.Follows {
			text += " stays"
		}
		got = append(got, text)
	}
	if want := "new/a, new/c stays, new/d stays, old/e, old/f, old/g, old/h"; strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
	restarts, unknown := fleet.Restarts(out, 1)
	if len(restarts) != 2 || restarts[0].GUID != "app-0" || restarts[1].GUID != "app-2" || restarts[1].Containers != 2 || restarts[1].Wave != 2 || unknown != 1 {
		t.Errorf("%+v, %d unknown", restarts, unknown)
	}
	if out, _, err := fleet.Behind(cells(t), ref(t, "rootfs/nobody:stable")); err != nil || len(out) > 0 {
		t.Errorf("%v, %v", out, err)
	}
	if _, _, err := fleet.Behind(cells(t), ref(t, "rootfs/demo:nowhere")); !errors.Is(err, fleet.ErrNoLead) {
		t.Errorf("a channel that no cell knows: %v", err)
	}
}

func TestRestartCommand(t *testing.T) {
	for want, app := range map[string]fleet.App{
		"cf target -o acme -s 'my prod' && cf restart 'it'\\''s'":    {GUID: "g", AppName: "it's", SpaceName: "my prod", OrgName: "acme"},
		"cf curl -X POST /v3/apps/g-1/actions/restart":               {GUID: "g-1"},
		"cf curl -X POST /v3/apps/g-2/actions/restart":               {GUID: "g-2", AppName: "-f", SpaceName: "s", OrgName: "o"},
		"cf curl -X POST /v3/apps/g-3/actions/restart":               {GUID: "g-3", AppName: "a\nrm -rf /", SpaceName: "s", OrgName: "o"},
		"cf target -o 'o;reboot' -s '$(id)' && cf restart '`who` &'": {GUID: "g", AppName: "`who` &", SpaceName: "$(id)", OrgName: "o;reboot"},
	} {
		if got := (&fleet.Restart{App: app}).Command(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	outdated := []fleet.Outdated{{Follows: true, Container: fleet.Container{App: fleet.App{GUID: "../../v3/x"}}}}
	if all, unknown := fleet.Restarts(outdated, 1); len(all) != 0 || unknown != 1 {
		t.Errorf("a guid that is none became %v", all)
	}
}

// Whatever an app is called, sh makes of the command exactly its names.
func TestRestartCommandIsQuoted(t *testing.T) {
	name := rapid.StringMatching(`[ -~äé]{0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		app := fleet.App{GUID: "g", AppName: name.Draw(t, "app"), SpaceName: name.Draw(t, "space"), OrgName: name.Draw(t, "org")}
		script := "cf() { for a in \"$@\"; do printf '<%s>' \"$a\"; done; }\n" + (&fleet.Restart{App: app}).Command() + "  # note\n"
		out, err := exec.Command("sh", "-c", script).Output()
		want := "<curl><-X><POST></v3/apps/g/actions/restart>"
		if ok := func(s string) bool { return s != "" && s[0] != '-' }; ok(app.AppName) && ok(app.SpaceName) && ok(app.OrgName) {
			want = "<target><-o><" + app.OrgName + "><-s><" + app.SpaceName + "><restart><" + app.AppName + ">"
		}
		if err != nil || string(out) != want {
			t.Fatalf("%v: %s, want %s, of\n%s", err, out, want, script)
		}
	})
}
