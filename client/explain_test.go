package client_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
)

func TestFilesAndFetch(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{
		"/a":             testrepo.Text("some"),
		"/n":             testrepo.Nested(),
		"/n/b":           testrepo.Text("text"),
		"/n/deep/chunks": testrepo.Chunks([]byte(strings.Repeat("0123456789", 100)), 300),
		"/n/link":        testrepo.Link("b"),
		"/empty":         testrepo.Text(""),
	})
	o := clientOf(t, repo)
	r, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var paths []string
	err = r.Files(t.Context(), r.Root(), func(f client.Found) error {
		if !strings.HasSuffix(f.Path, ".cvmfscatalog") {
			paths = append(paths, f.Path)
		}
		return nil
	})
	slices.Sort(paths)
	if want := []string{"/a", "/empty", "/n/b", "/n/deep/chunks"}; err != nil || !slices.Equal(paths, want) {
		t.Errorf("%v, %v", paths, err)
	}
	n := find(t, r, "/n/deep/chunks")
	before, err := r.Explain(t.Context(), n)
	if err != nil || len(before.Objects) != 4 || before.Objects[3].Size != 100 || before.Objects[1].Cached || before.CatalogAt != "/n" {
		t.Fatalf("%+v, %v", before, err)
	}
	if fetched, err := r.Fetch(t.Context(), n); err != nil || fetched != 1000 {
		t.Errorf("fetched %d, %v", fetched, err)
	}
	if fetched, err := r.Fetch(t.Context(), n); err != nil || fetched != 0 {
		t.Errorf("fetched %d again, %v", fetched, err)
	}
	after, err := r.Explain(t.Context(), n)
	if err != nil || slices.ContainsFunc(after.Objects, func(o client.StoredObject) bool { return !o.Cached }) {
		t.Errorf("%+v, %v", after, err)
	}
	// What an object's path says is where the server has it.
	for _, x := range after.Objects {
		if repo.Get(x.Path) == nil {
			t.Errorf("nothing is served at %s", x.Path)
		}
	}
	stop := errors.New("stop")
	if err := r.Files(t.Context(), r.Root(), func(client.Found) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of yield: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Files(ended, r.Root(), func(client.Found) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is done: %v", err)
	}
}

// A catalog index that is damaged on disk while it is mapped is made again at the
// next refresh.
func TestDamagedIndexIsMadeAgain(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/n": testrepo.Nested(), "/n/b": testrepo.Text("text")})
	o := clientOf(t, repo)
	r, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := find(t, r, "/n/b")
	mapped := r.Mapped()
	if len(mapped) != 2 {
		t.Fatalf("%v", mapped)
	}
	for _, h := range mapped {
		f, ok := o.Cache.Lookup(t.Context(), cache.Index(h))
		if !ok {
			t.Fatalf("index of %v is not cached", h)
		}
		// Appending harms nobody who has it mapped, unlike truncating.
		w, err := os.OpenFile(f.Name(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString("garbage"); err != nil {
			t.Fatal(err)
		}
		w.Close()
		f.Close()
	}
	if _, err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := r.Mapped(); len(left) != 0 {
		t.Errorf("still mapped: %v", left)
	}
	if s, err := content(t.Context(), r, n); err != nil || s != "text" {
		t.Errorf("%q, %v", s, err)
	}
	if d := o.Cache.Stats().Discarded; d != 2 {
		t.Errorf("%d discarded", d)
	}
}

// An open content says so when its file was written to.
func TestIntact(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/a": testrepo.Text("some text")})
	o := clientOf(t, repo)
	r, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := r.Open(t.Context(), find(t, r, "/a"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	intact := c.(interface{ Intact() bool }).Intact
	if !intact() {
		t.Error("not intact at once")
	}
	path := filepath.Join(o.Cache.Dir(), object.ContentOf([]byte("some text")).CachePath())
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("evil text"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if intact() {
		t.Error("intact though it was written to")
	}
	if s, err := content(t.Context(), r, find(t, r, "/a")); err != nil || s != "some text" {
		t.Errorf("opened anew: %q, %v", s, err)
	}
	fresh, err := r.Open(t.Context(), find(t, r, "/a"))
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	o.Cache.Evict(1 << 30)
	if !fresh.(interface{ Intact() bool }).Intact() {
		t.Error("evicting took a content from who has it open")
	}
}
