package client_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

func down(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusBadGateway) }

func TestRefresh(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	r := openRepository(t, clientOf(t, repo))
	if changed, err := r.Refresh(t.Context()); changed || err != nil {
		t.Errorf("nothing new: %v, %v", changed, err)
	}
	old := find(t, r, "/f")
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("two")})
	if changed, err := r.Refresh(t.Context()); !changed || err != nil {
		t.Errorf("new revision: %v, %v", changed, err)
	}
	if got := readPath(t, r, "/f"); got != "two" || r.Status().Revision != 2 {
		t.Errorf("%q at revision %d", got, r.Status().Revision)
	}
	if got, err := content(t.Context(), r, old); got != "one" || err != nil {
		t.Errorf("a node of the old revision reads %q, %v", got, err)
	}
	// Tags come without a revision of their own.
	repo.Tag("v2")
	if changed, err := r.Refresh(t.Context()); changed || err != nil {
		t.Errorf("a tag: %v, %v", changed, err)
	}
}

// What has not changed is not sent again, but verified again.
func TestRefreshIsConditional(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{Expires: time.Now().Add(50 * time.Hour)})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	c := newClock()
	o := clientOf(t, repo)
	o.Clock = c.now
	r := openRepository(t, o)
	before := o.Fetcher.(*fetch.Stack).Network().Totals
	for range 3 {
		if _, err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	after := o.Fetcher.(*fetch.Stack).Network().Totals
	if after.Requests-before.Requests != 3 || after.Bytes != before.Bytes {
		t.Errorf("3 refreshes took %d requests and %d bytes", after.Requests-before.Requests, after.Bytes-before.Bytes)
	}
	hits := repo.Hits(manifest.WhitelistName)
	c.add(time.Hour)
	if _, err := r.Refresh(t.Context()); err != nil || repo.Hits(manifest.WhitelistName) != hits+1 {
		t.Errorf("an old whitelist: %v, %d requests for it", err, repo.Hits(manifest.WhitelistName)-hits)
	}
	c.add(72 * time.Hour)
	_, err := r.Refresh(t.Context())
	if !errors.Is(err, manifest.ErrExpired) || !r.Status().Offline {
		t.Errorf("expired: %v, %+v", err, r.Status())
	}
	if got := readPath(t, r, "/f"); got != "one" {
		t.Errorf("reads %q after the expiry", got)
	}
	repo.Whitelist(time.Now().AddDate(1, 0, 0))
	if _, err := r.Refresh(t.Context()); err != nil || r.Status().Offline {
		t.Errorf("renewed: %v, %+v", err, r.Status())
	}
}

// An older revision is refused while running and after a restart, and does
// not keep the last good one from being shown.
func TestRollback(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	first := repo.Head()
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("two")})
	second := repo.Head()
	o := clientOf(t, repo)
	r := openRepository(t, o)
	backdated := second
	backdated.Published--
	twin := second
	twin.RootCatalog = first.RootCatalog
	for name, m := range map[string]manifest.Manifest{"revision": first, "time stamp": backdated, "twin": twin} {
		repo.Sign(m)
		if _, err := r.Refresh(t.Context()); !errors.Is(err, manifest.ErrRollback) {
			t.Errorf("%s: %v", name, err)
		}
		again := openRepository(t, o)
		if got := readPath(t, again, "/f"); got != "two" || !again.Status().Offline {
			t.Errorf("%s, after a restart: %q, %+v", name, got, again.Status())
		}
	}
	// With nothing to fall back to, the breadcrumb alone refuses.
	crumb := filepath.Join(o.Cache.Dir(), "state", repo.Name)
	if err := os.Remove(filepath.Join(crumb, "published")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Open(t.Context(), o); !errors.Is(err, manifest.ErrRollback) {
		t.Errorf("breadcrumb: %v", err)
	}
	if err := os.WriteFile(filepath.Join(crumb, "cvmfschecksum."+repo.Name), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Open(t.Context(), o); !errors.Is(err, manifest.ErrMalformed) || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("damaged breadcrumb: %v", err)
	}
}

func TestOfflineStart(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{Expires: time.Now().Add(50 * time.Hour)})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one"), "/unread": testrepo.Text("never fetched")})
	c := newClock()
	o := clientOf(t, repo)
	o.Clock = c.now
	r := openRepository(t, o)
	readPath(t, r, "/f")
	repo.Fault("", down)
	r = openRepository(t, o)
	if got := readPath(t, r, "/f"); got != "one" || !r.Status().Offline {
		t.Errorf("%q, %+v", got, r.Status())
	}
	if _, err := content(t.Context(), r, find(t, r, "/unread")); !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("what is not cached: %v", err)
	}
	repo.Fault("", nil)
	if _, err := r.Refresh(t.Context()); err != nil || r.Status().Offline {
		t.Errorf("server back: %v, %+v", err, r.Status())
	}
	repo.Fault("", down)
	c.add(72 * time.Hour)
	if _, err := client.Open(t.Context(), o); !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("whitelist expired meanwhile: %v", err)
	}
	fresh := clientOf(t, repo)
	if _, err := client.Open(t.Context(), fresh); !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("first start without server: %v", err)
	}
}

// A new revision whose root catalog is not there yet leaves the old one shown.
func TestRootCatalogMissing(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	o := clientOf(t, repo)
	r := openRepository(t, o)
	readPath(t, r, "/f")
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("two")})
	repo.Fault("data/", http.NotFound)
	if _, err := r.Refresh(t.Context()); !errors.Is(err, fetch.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if got := readPath(t, openRepository(t, o), "/f"); got != "one" {
		t.Errorf("after a restart: %q", got)
	}
	repo.Fault("data/", nil)
	if changed, err := r.Refresh(t.Context()); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
}

func TestRefused(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	for name, tc := range map[string]struct {
		change func(*client.Options)
		want   error
	}{
		"another name": {func(o *client.Options) { o.Name = "other.example.org" }, manifest.ErrName},
		"no key":       {func(o *client.Options) { o.Trust.Keys = nil }, manifest.ErrSignature},
		"path as name": {func(o *client.Options) { o.Name = "../x" }, manifest.ErrName},
		"unknown root": {func(o *client.Options) { o.RootHash = repo.Head().Certificate }, fetch.ErrNotFound},
		"small limit, size unknown": {func(o *client.Options) {
			o.MaxCatalog, o.RootHash = 1000, repo.Head().RootCatalog
		}, codec.ErrSize},
		"small limit": {func(o *client.Options) { o.MaxCatalog = 1000 }, client.ErrInconsistent},
		"two at once": {func(o *client.Options) { o.Tag, o.Date = "x", time.Unix(1, 0) }, nil},
		"no cache":    {func(o *client.Options) { o.Cache = nil }, nil},
	} {
		o := clientOf(t, repo)
		tc.change(&o)
		r, err := client.Open(t.Context(), o)
		if err == nil {
			r.Close()
		}
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A catalog larger than the manifest says is cut off, not swallowed.
	m := repo.Head()
	m.CatalogSize = 4096
	repo.Sign(m)
	if _, err := client.Open(t.Context(), clientOf(t, repo)); !errors.Is(err, fetch.ErrCorrupt) {
		t.Errorf("wrong size: %v", err)
	}
	m.CatalogSize = 0
	repo.Sign(m)
	openRepository(t, clientOf(t, repo))
	m.Certificate = repo.PutObject(object.Zlib, object.Certificate, make([]byte, 1<<20))
	repo.Sign(m)
	if _, err := client.Open(t.Context(), clientOf(t, repo)); !errors.Is(err, codec.ErrSize) {
		t.Errorf("a certificate that inflates to a mebibyte: %v", err)
	}
}
