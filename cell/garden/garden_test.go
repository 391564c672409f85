package garden_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/cell/garden"
	"github.com/rootstock-cf/rootstock/cell/garden/gardentest"
)

func TestProperties(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "garden.sock")
	unix := gardentest.Start(t, socket)
	tcp, at := gardentest.StartTCP(t)
	for _, g := range []*gardentest.Garden{unix, tcp} {
		g.Create("executor-healthcheck-1", map[string]string{"network.app_id": "guid", "x": "y"})
	}
	for _, address := range []string{socket, "unix:" + socket, "unix://" + socket, at, "tcp://" + at} {
		c, err := garden.New(address)
		if err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		defer c.Close()
		p, err := c.Properties(t.Context(), "executor-healthcheck-1")
		if err != nil || p["network.app_id"] != "guid" || len(p) != 2 {
			t.Errorf("%s: %v, %v", address, p, err)
		}
		// guardian says null of what it does not know.
		if p, err := c.Properties(t.Context(), "nobody"); err != nil || len(p) > 0 {
			t.Errorf("%s: of nobody %v, %v", address, p, err)
		}
	}
	unix.Break(true)
	c, err := garden.New(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Properties(t.Context(), "a"); !errors.Is(err, garden.ErrUnavailable) || !strings.Contains(err.Error(), socket) {
		t.Errorf("a broken Garden: %v", err)
	}
	// A handle does not lead elsewhere in the API.
	if _, err := c.Properties(t.Context(), "../containers"); !errors.Is(err, garden.ErrUnavailable) {
		t.Errorf("a handle that climbs: %v", err)
	}
	if asked := unix.Asked(); asked[len(asked)-1] != "../containers" {
		t.Errorf("asked for %q", asked)
	}
}

func TestHostileGarden(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) },
		"a list":  func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("[1]")) },
		"too much": func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"a":"` + strings.Repeat("x", 1<<20) + `"}`))
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"no end": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		s := httptest.NewServer(h)
		defer s.Close()
		c, err := garden.New(strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if p, err := c.Properties(t.Context(), "a"); !errors.Is(err, garden.ErrUnavailable) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func TestAddress(t *testing.T) {
	for _, address := range []string{"", "garden.sock", "localhost", "unix:garden.sock", "unix:localhost:7777", "http://localhost:7777/", "http://garden"} {
		if _, err := garden.New(address); !errors.Is(err, garden.ErrAddress) {
			t.Errorf("%q: %v", address, err)
		}
	}
}
