package cell_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/garden"
	"github.com/rootstock-cf/rootstock/cell/garden/gardentest"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/reference"
)

func lower(t *testing.T, c *control.Client, ref, handle string) control.Lower {
	t.Helper()
	r, err := reference.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Lower(t.Context(), control.LowerRequest{Ref: r, Handle: handle, Droplet: "sha256:" + handle})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func report(t *testing.T, c *control.Client) (d fleet.Document) {
	t.Helper()
	do(t, c, cell.CallReport, nil, &d)
	return d
}

// version is a tree of the tree tier, as a publisher names it.
func version(text string) testrepo.Tree {
	return testrepo.Tree{
		"/rootfs/demo/" + text: testrepo.Nested(), "/rootfs/demo/" + text + "/etc/version": testrepo.Text(text),
	}
}

func published(channel string, versions ...string) testrepo.Tree {
	all := testrepo.Tree{"/channels/rootfs/demo/stable": testrepo.Link("../../../rootfs/demo/" + channel), "/channels/rootfs/demo/stable.json": testrepo.Text("{}")}
	for _, v := range versions {
		for name, e := range version(v) {
			all[name] = e
		}
	}
	return all
}

// A report says of every container what it stands on and whose it is, and where
// the channels of its name lead, as of the revision that is shown.
func TestReport(t *testing.T) {
	repo, other := testrepo.New(t, testrepo.Options{}), testrepo.New(t, testrepo.Options{Name: "two.example.org"})
	repo.Publish(published("1", "1", "2"))
	other.Publish(box)
	o := options(t, repo, other)
	o.CellName = "z1-cell-7"
	socket := filepath.Join(t.TempDir(), "g.sock")
	g := gardentest.Start(t, socket)
	client, err := garden.New(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	o.Garden = client
	daemon, c, stop := start(t, o)
	base := "cvmfs://" + repo.Name + "/rootfs/demo"
	lower(t, c, base+":stable", "a")
	lower(t, c, base+"@2", "a+0")
	lower(t, c, base+"@2", "b")
	lower(t, c, "cvmfs://two.example.org/-/tree", "c")
	g.Diego("a", "app", "space", "org", "shop", "prod", "acme")

	d := report(t, c)
	if d.Cell != "z1-cell-7" || len(d.Missing) != 0 || d.Garden != "" || time.Since(d.Taken) > time.Minute || len(d.Containers) != 4 {
		t.Fatalf("%+v", d)
	}
	by := map[string]fleet.Container{}
	for _, one := range d.Containers {
		by[one.Handle] = one
		if one.Catalog == "" || one.Since.IsZero() || one.Droplet != "sha256:"+one.Handle {
			t.Errorf("%+v", one)
		}
	}
	if a := by["a"]; a.Ref.String() != base+":stable" || a.Version != "1" ||
		a.App != (fleet.App{GUID: "app", Space: "space", Org: "org", Workload: "app", AppName: "shop", SpaceName: "prod", OrgName: "acme"}) {
		t.Errorf("%+v", a)
	}
	if by["a+0"].GUID != "app" {
		t.Errorf("of a's buildpack: %+v", by["a+0"])
	}
	if by["b"].App != (fleet.App{}) || by["c"].Ref.Repository != "two.example.org" {
		t.Errorf("%+v", by)
	}
	leads := func(d fleet.Document) (list []string) {
		for _, l := range d.Leads {
			text := strings.TrimPrefix(l.Ref.String(), base) + "=" + l.Version
			if l.Gone {
				text += "gone"
			}
			list = append(list, text)
		}
		return list
	}
	if got := leads(d); !slices.Equal(got, []string{":stable=1", "@2=2", "cvmfs://two.example.org/-/tree="}) {
		t.Errorf("leads %q", got)
	}

	// Garden is asked once for what it knew, and its silence is said.
	report(t, c)
	var asked int
	for _, handle := range g.Asked() {
		if handle == "a" { // for itself and its buildpack
			asked++
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times: %q", asked, g.Asked())
	}
	g.Break(true)
	if d = report(t, c); !strings.Contains(d.Garden, "garden does not answer") || len(d.Containers) != 4 || d.Containers[0].GUID != "app" {
		t.Errorf("%+v", d)
	}

	// The channel moves, a version goes.
	repo.Publish(published("3", "1", "3"))
	if _, err := daemon.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	d = report(t, c)
	if got := leads(d); !slices.Equal(got, []string{":stable=3", "@2=gone", "cvmfs://two.example.org/-/tree="}) || d.Leads[0].Revision < 2 {
		t.Errorf("leads %q", got)
	}
	_, body := get(t, daemon, "/metrics")
	for _, want := range []string{
		`rootstock_cell_version_containers{channel="stable",name="rootfs/demo",repository="` + repo.Name + `",version="1"} 1`,
		`rootstock_cell_version_containers{channel="",name="other",repository="two.example.org",version=""} 1`,
		`rootstock_cell_version_behind_containers{channel="",name="rootfs/demo",repository="` + repo.Name + `",version="2"} 0`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s", want)
		}
	}

	// What cannot be mounted cannot be told of.
	stop()
	o.Repositories[1].Mountpoint = filepath.Join(t.TempDir(), "not", "there")
	_, c, _ = start(t, o)
	if d = report(t, c); len(d.Missing) != 1 || d.Missing[0].Repository != other.Name || len(d.Containers) != 3 {
		t.Errorf("%+v", d)
	}
}

// Contents are opened or unknown; what was opened stays so over a restart.
func TestOpenedContents(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/tree": testrepo.Nested(), "/tree/read": testrepo.Text("read"), "/tree/warmed": testrepo.Text("warmed")})
	o := options(t, repo)
	daemon, c, stop := start(t, o)
	l := lower(t, c, "cvmfs://"+repo.Name+"/-/tree", "h")
	do(t, c, cell.CallWarm, cell.Paths{Paths: []string{"/tree"}}, nil)
	if b, err := cat(l.Lower[0] + "/read"); err != nil || string(b) != "read" {
		t.Fatalf("%q, %v", b, err)
	}
	ids := []object.ContentID{sha256.Sum256([]byte("read")), sha256.Sum256([]byte("warmed")), sha256.Sum256([]byte("never here"))}
	for range 2 {
		question, err := json.Marshal(fleet.ContentsOf(ids))
		if err != nil {
			t.Fatal(err)
		}
		status, body := ask(daemon, http.MethodPost, fleet.OpenedRoute, question)
		var answer fleet.Contents
		if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK || !slices.Equal(answer.Contents, []string{ids[0].String()}) {
			t.Errorf("%d %s", status, body)
		}
		stop()
		daemon, _, stop = start(t, o)
	}
	for name, question := range map[string]string{"nothing": "", "no id": `{"contents":["x"]}`, "too much": `{"contents":["` + strings.Repeat("0", 1<<20) + `"]}`} {
		if status, body := ask(daemon, http.MethodPost, fleet.OpenedRoute, []byte(question)); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, _ := ask(daemon, http.MethodGet, "/metrics", nil); status != http.StatusNotFound {
		t.Errorf("metrics: %d", status)
	}
}

func ask(c *cell.Cell, method, path string, body []byte) (int, []byte) {
	w := httptest.NewRecorder()
	c.FleetHandler().ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
	return w.Code, w.Body.Bytes()
}

// Nobody is told what runs here without showing a certificate.
func TestFleetNeedsCertificates(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(box)
	o := options(t, repo)
	for _, conf := range []*tls.Config{nil, {MinVersion: tls.VersionTLS12}, {MinVersion: tls.VersionTLS12, ClientAuth: tls.VerifyClientCertIfGiven}} {
		o.Fleet = cell.Fleet{Listen: "127.0.0.1:0", TLS: conf}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		c, err := cell.Mount(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(ctx, cancel); err == nil || !strings.Contains(err.Error(), "has to show a certificate") {
			t.Errorf("got %v", err)
		}
		cancel()
	}
}
