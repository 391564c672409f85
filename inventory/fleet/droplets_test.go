package fleet_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
)

// A droplet is asked for once, however many containers run it; of the next cell
// if the first one does not say; and what speaks of another is no answer.
func TestDroplets(t *testing.T) {
	a, b, c, d := droplet("a"), droplet("b"), droplet("c"), droplet("d")
	var asked atomic.Int64
	serve := func(knows string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			digest := r.URL.Query().Get(fleet.DigestKey)
			switch {
			case r.URL.Path != fleet.DropletRoute || !strings.Contains(knows, digest):
				http.NotFound(w, r)
			case digest == c:
				fmt.Fprintf(w, `{"format":1,"tree":%q}`, b)
			default:
				fmt.Fprintf(w, `{"format":1,"tree":%q,"packages":[{"ecosystem":"npm","name":"x","version":"1"}]}`, digest)
			}
		}))
		t.Cleanup(s.Close)
		return s
	}
	one, two := serve(a+c), serve(a+b+c)
	run := func(digests ...string) (all []fleet.Container) {
		for _, d := range digests {
			all = append(all, fleet.Container{Droplet: d})
		}
		return all
	}
	cells := []fleet.Cell{
		{Name: "1", Source: one.URL, Containers: run(a, a, a, b, "", a)},
		{Name: "2", Source: two.URL + "/", Containers: run(b, a, c, b)},
		{Name: "file", Source: "/a/file", Containers: run(d)},
	}
	known := asker().Droplets(t.Context(), cells)
	if len(known) != 4 || known[a] == nil || known[b] == nil || known[c] != nil || known[d] != nil || known[b].Tree != b || len(known[a].Packages) != 1 {
		t.Errorf("%v", known)
	}
	if n := asked.Load(); n != 4 {
		t.Errorf("asked %d times", n)
	}
}

func droplet(s string) string { return "sha256:" + strings.Repeat(s, 64) }
