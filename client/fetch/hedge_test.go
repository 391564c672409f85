package fetch_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/client/fetch"
)

// slowable answers with its name, at once until it is told to wait for the end
// of the test or of the request.
func slowable(t *testing.T, name string) (*server, *atomic.Bool) {
	t.Helper()
	var slow atomic.Bool
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if slow.Load() {
			<-r.Context().Done()
			return
		}
		io.WriteString(w, name) //nolint:errcheck // the test sees it
	}), &slow
}

// warm has the stack learn how fast the first server usually is.
func warm(t *testing.T, f fetch.Fetcher) {
	t.Helper()
	for range 12 {
		if got, err := get(t, f, fetch.Options{}); got != "a" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestHedge(t *testing.T) {
	a, slow := slowable(t, "a")
	b, _ := slowable(t, "b")
	f := stack(t, fetch.Config{Servers: []string{a.URL, b.URL}, Hedge: true})
	warm(t, f)
	if b.hits.Load() != 0 {
		t.Errorf("%d requests to the second while the first is well", b.hits.Load())
	}
	slow.Store(true)
	// The limit of ten in vain does not count those that helped.
	for range 25 {
		if got, err := get(t, f, fetch.Options{}); got != "b" || err != nil {
			t.Fatalf("first slow: %q, %v", got, err)
		}
	}
	if servers, _ := f.States(); !servers[0].Until.IsZero() || f.Network().Hedges != 25 {
		t.Errorf("%d hedges; a slow server is no failed one: %v", f.Network().Hedges, servers)
	}
	slow.Store(false)
	if got, err := get(t, f, fetch.Options{}); got != "a" || err != nil {
		t.Errorf("first fast again: %q, %v", got, err)
	}
}

// Without being asked to, nobody sends twice; nor for a root file, of which the
// preferred server has the newest.
func TestNoHedge(t *testing.T) {
	for name, tc := range map[string]struct {
		hedge bool
		o     fetch.Options
	}{
		"off":             {false, fetch.Options{}},
		"root file":       {true, fetch.Options{MaxAge: 5e9}},
		"conditional":     {true, fetch.Options{ETag: `"1"`}},
		"past the caches": {true, fetch.Options{NoCache: true}},
	} {
		a, slow := slowable(t, "a")
		b, _ := slowable(t, "b")
		f := stack(t, fetch.Config{Servers: []string{a.URL, b.URL}, Hedge: tc.hedge, TimeoutDirect: 100e6})
		warm(t, f)
		slow.Store(true)
		if got, err := get(t, f, tc.o); got != "b" || err != nil {
			t.Errorf("%s: after the time-out: %q, %v", name, got, err)
		}
		if n := f.Network().Hedges; n != 0 {
			t.Errorf("%s: %d hedges", name, n)
		}
	}
}

// Both may fail, and then it is as without.
func TestHedgeFails(t *testing.T) {
	a, slow := slowable(t, "a")
	b := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })
	f := stack(t, fetch.Config{Servers: []string{a.URL, b.URL}, Hedge: true, TimeoutDirect: 200e6})
	warm(t, f)
	slow.Store(true)
	if got, err := get(t, f, fetch.Options{}); err == nil {
		t.Errorf("%q from nowhere", got)
	}
	if servers, _ := f.States(); servers[0].Until.IsZero() || servers[1].Until.IsZero() {
		t.Errorf("not held against them: %v", servers)
	}
}
