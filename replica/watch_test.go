package replica_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/replica"
)

// Each new revision is copied, a failure is reported and got over, and asking
// whether there is something new costs no more than an answer of no.
func TestWatch(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results, failures := make(chan *replica.Result, 16), make(chan error, 16)
	var group sync.WaitGroup
	r := replicator(t, repo.URL, s, trusting(repo))
	group.Go(func() {
		if err := r.Watch(ctx, time.Millisecond, func(res *replica.Result, err error) {
			if err != nil {
				select {
				case failures <- err:
				default:
				}
				return
			}
			results <- res
		}); err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	for i, more := range []string{"", "second", "third"} {
		if more != "" {
			repo.Publish(tree(more))
		}
		if res := <-results; res.Revision != uint64(i+1) {
			t.Errorf("revision %d, want %d", res.Revision, i+1)
		}
	}
	objects, asked := repo.Requests("data/"), repo.Hits(manifest.FileName)
	for repo.Hits(manifest.FileName) < asked+20 {
		time.Sleep(time.Millisecond)
	}
	if n := repo.Requests("data/") - objects; n != 0 {
		t.Errorf("nothing new cost %d objects", n)
	}
	repo.Fault(manifest.FileName, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", 500) })
	if err := <-failures; !strings.Contains(err.Error(), manifest.FileName) {
		t.Errorf("%v", err)
	}
	repo.Fault(manifest.FileName, nil)
	repo.Publish(tree("fourth"))
	if res := <-results; res.Revision != 4 {
		t.Errorf("after a failure: revision %d", res.Revision)
	}
	// A head that could not be copied is not one that was: it is tried again,
	// though it has not changed since.
	repo.Fault("data/", http.NotFound)
	repo.Publish(tree("fifth"))
	for err := range failures {
		if errors.Is(err, fetch.ErrNotFound) {
			break
		}
	}
	repo.Fault("data/", nil)
	if res := <-results; res.Revision != 5 {
		t.Errorf("after objects were missing: revision %d", res.Revision)
	}
	cancel()
	group.Wait()
	sameObjects(t, repo, s)
}

// The question carries what was answered last.
func TestWatchAsksConditionally(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := replicator(t, repo.URL, s, trusting(repo))
	snapshot(t, r)
	repo.Fault(manifest.FileName, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("If-None-Match") == "" || req.Header.Get("Cache-Control") != "max-age=1" {
			t.Errorf("asked with %v", req.Header)
		}
		w.WriteHeader(http.StatusNotModified)
	})
	repo.Fault(manifest.WhitelistName, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("If-None-Match") == "" {
			t.Errorf("asked with %v", req.Header)
		}
		w.WriteHeader(http.StatusNotModified)
		cancel()
	})
	if err := r.Watch(ctx, time.Millisecond, func(res *replica.Result, err error) { t.Errorf("%+v, %v", res, err) }); err != nil {
		t.Error(err)
	}
}
