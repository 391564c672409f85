package cell_test

import (
	"path/filepath"
	"testing"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/garden"
	"github.com/rootstock-cf/rootstock/cell/garden/gardentest"
)

// Profiles are filed under a type of process, never under what it runs.
func TestProcessType(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "g.sock")
	g := gardentest.Start(t, socket)
	client, err := garden.New(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	g.Create("typed", map[string]string{"log_config": `{"tags":{"process_type":"worker"}}`, "network.container_workload": "app"})
	g.Diego("old", "app", "space", "org", "shop", "prod", "acme")
	g.Create("staging", map[string]string{"network.container_workload": "staging", "log_config": "no JSON", "command": "bin/run --password=x"})
	for handle, want := range map[string]string{"typed": "worker", "typed+1": "worker", "old": "app", "staging": "staging", "gone": ""} {
		if got := cell.ProcessOf(t.Context(), client, handle); got != want {
			t.Errorf("%s: %q, want %q", handle, got, want)
		}
	}
	if got := cell.ProcessOf(t.Context(), nil, "typed"); got != "" {
		t.Errorf("without Garden: %q", got)
	}
	g.Break(true)
	if got := cell.ProcessOf(t.Context(), client, "typed"); got != "" {
		t.Errorf("with a broken one: %q", got)
	}
}
