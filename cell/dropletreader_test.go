package cell_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/reference"
)

// Containers of which nobody said what droplet they have are looked at, and two
// of one droplet are one.
func TestDropletsOfWriteLayers(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(rolling("{}"))
	o := options(t, repo)
	containers := t.TempDir()
	o.Droplets = cell.Droplets{Containers: containers, After: 10 * time.Millisecond, Rate: 1 << 30}
	daemon, c, _ := start(t, o)
	ref, err := reference.Parse("cvmfs://" + repo.Name + "/rootfs/demo@1")
	if err != nil {
		t.Fatal(err)
	}
	for _, handle := range []string{"a", "b", "none", "escape"} {
		if _, err := c.Lower(t.Context(), control.LowerRequest{Ref: ref, Handle: handle}); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(containers, handle, "upper", "home/vcap/app/node_modules/bcrypt/package.json")
		old := time.Unix(1_700_000_000, 0)
		switch handle {
		case "none":
			continue
		case "escape": // the container puts a link to the host in place of its home
			err = errors.Join(os.MkdirAll(filepath.Join(containers, handle, "upper/home"), 0o755), os.Symlink(filepath.Join(containers, "a/upper/home/vcap"), filepath.Join(containers, handle, "upper/home/vcap")))
		default:
			err = errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(`{"name":"bcrypt","version":"4.0.1"}`), 0o644), os.Chtimes(file, old, old))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	by := map[string]string{}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && (by["a"] == "" || by["b"] == ""); time.Sleep(20 * time.Millisecond) {
		for _, one := range report(t, c).Containers {
			by[one.Handle] = one.Droplet
		}
	}
	if by["a"] == "" || by["a"] != by["b"] || by["none"] != "" || by["escape"] != "" || !strings.HasPrefix(by["a"], "files:") {
		t.Fatalf("%v", by)
	}
	status, body := ask(daemon, http.MethodGet, fleet.DropletRoute+"?digest="+by["a"], nil)
	v, err := inventory.Decode(bytes.NewReader(body))
	if status != http.StatusOK || err != nil || len(v.Packages) != 1 || v.Packages[0].Name != "bcrypt" {
		t.Errorf("%d %s", status, body)
	}
	for digest, want := range map[string]int{"": 400, "../x": 400, "sha256:" + strings.Repeat("0", 64): 404} {
		if status, body := ask(daemon, http.MethodGet, fleet.DropletRoute+"?digest="+digest, nil); status != want {
			t.Errorf("%q: %d %s", digest, status, body)
		}
	}

	// Whoever fetches a layer is told where to put what it has, unless that
	// is known.
	var answer cell.DropletFile
	do(t, c, cell.CallDroplet, cell.DropletFile{Digest: by["a"]}, &answer)
	if answer.File != "" {
		t.Errorf("%+v", answer)
	}
	do(t, c, cell.CallDroplet, cell.DropletFile{Digest: "sha256:" + strings.Repeat("0", 64)}, &answer)
	if !filepath.IsAbs(answer.File) {
		t.Errorf("%+v", answer)
	}
	if err := c.Do(t.Context(), cell.CallDroplet, cell.DropletFile{Digest: "x"}, nil, nil); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
