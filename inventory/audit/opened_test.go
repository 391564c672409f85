package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/inventory/audit"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/object"
)

// Only cells that run an affected tree and have an address are asked, and one
// that does not say is one of which it is unknown.
func TestAskOpened(t *testing.T) {
	runs := func(name, source, tree string) fleet.Cell {
		return fleet.Cell{Name: name, Source: source, Containers: []fleet.Container{{Handle: "h", Tree: tree}}}
	}
	cells := []fleet.Cell{
		runs("saw", "https://saw:1", "a"), runs("did-not", "https://did-not:1", "a"), runs("fails", "https://fails:1", "a"),
		runs("a-file", "/cells.json", "a"), runs("elsewhere", "https://elsewhere:1", "clean"), runs("unlisted", "https://unlisted:1", "b"),
	}
	trees := []audit.Tree{
		tree("a", at("1", 1), jammy, "deb openssl 1.0"), tree("b", at("2", 2), jammy, "deb openssl 1.0"),
		tree("clean", at("3", 3), jammy, "deb openssl 3.0"), tree("idle", at("4", 4), jammy, "deb openssl 1.0"),
	}
	droplet := tree("d", at("5", 5), jammy, "deb openssl 1.0")
	droplet.Droplet = true
	report := audit.Run([]audit.Advisory{query(t, "openssl < 2")}, append(trees, droplet), append(cells, fleet.Cell{
		Name: "droplets", Source: "https://droplets:1", Containers: []fleet.Container{{Handle: "h", Tree: "x", Droplet: "d"}},
	}))
	var asked, read []string
	openings := audit.Openings{
		Files: func(_ context.Context, tree *audit.Tree, hits []audit.Hit) ([]object.ContentID, error) {
			read = append(read, fmt.Sprint(tree.ID, len(hits)))
			if tree.ID == "b" {
				return nil, nil
			}
			return []object.ContentID{{1}, {2}}, nil
		},
		Ask: func(_ context.Context, c *fleet.Cell, ids []object.ContentID) ([]object.ContentID, error) {
			switch c.Name {
			case "saw":
				return ids, nil
			case "did-not":
				return nil, nil
			case "fails":
				return ids, errors.New("no answer")
			}
			asked = append(asked, c.Name)
			return ids, nil
		},
	}
	if err := report.AskOpened(t.Context(), cells, openings); err != nil {
		t.Fatal(err)
	}
	slices.Sort(read)
	if !slices.Equal(read, []string{"a1", "b1"}) || asked != nil {
		t.Errorf("contents of %q were looked up, and %q asked", read, asked)
	}
	for _, f := range report.Findings {
		want := map[string]string{"a": "map[saw:2]", "b": "map[]"}[f.Tree.ID]
		if got := fmt.Sprint(f.Opened); got != want && (want != "" || f.Opened != nil) {
			t.Errorf("%s: %s, want %q", f.Tree.ID, got, want)
		}
	}
	openings.Files = func(context.Context, *audit.Tree, []audit.Hit) ([]object.ContentID, error) {
		return nil, errors.New("it cannot be read")
	}
	if err := report.AskOpened(t.Context(), cells, openings); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Error(err)
	}
}
