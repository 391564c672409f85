package cell_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/garden"
	"github.com/rootstock-cf/rootstock/cell/garden/gardentest"
	"github.com/rootstock-cf/rootstock/cell/startup"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
)

// Whoever may ask is given all that was recorded, one document a line, and none
// of what cannot be read.
func TestProfilesRoute(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(box)
	o := options(t, repo)
	dir := filepath.Join(o.CacheDir, "state", "profiles")
	trees := []imagemeta.TreeID{object.ContentOf([]byte("one")), object.ContentOf([]byte("two"))}
	recorder, err := startup.New(startup.Options{Dir: dir, Naming: func(object.ContentID) []imagemeta.TreeID { return trees }})
	if err != nil {
		t.Fatal(err)
	}
	opened := map[imagemeta.TreeID]object.ContentID{}
	for i, tree := range trees {
		opened[tree] = object.ContentOf(fmt.Append(nil, i))
		handle := fmt.Sprint("h", i)
		recorder.Begin(handle, tree)
		recorder.Opened(opened[tree])
		recorder.End(handle)
	}
	recorder.Close()
	names, err := filepath.Glob(dir + "/*")
	if err != nil || len(names) != 2 {
		t.Fatalf("%v, %v", names, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken"+filepath.Ext(names[0])), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}

	daemon, _, _ := start(t, o)
	status, body := ask(daemon, http.MethodGet, cell.ProfilesRoute, nil)
	docs, err := profile.Read(bytes.NewReader(body))
	if status != http.StatusOK || err != nil || len(docs) != 2 || bytes.Count(body, []byte("\n")) != 2 {
		t.Fatalf("%d, %v: %s", status, err, body)
	}
	for _, d := range docs {
		if got := d.Order(); !slices.Equal(got, []object.ContentID{opened[d.Tree]}) {
			t.Errorf("tree %s: %s, want %s", d.Tree, got, opened[d.Tree])
		}
	}
	if status, _ := ask(daemon, http.MethodPost, cell.ProfilesRoute, nil); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", status)
	}
}

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
