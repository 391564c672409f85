package client_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
)

func nestedTree(other string) testrepo.Tree {
	return testrepo.Tree{
		"/a/n": testrepo.Nested(), "/a/n/deep/f": testrepo.Text("f"), "/a/n/m": testrepo.Nested(), "/a/n/m/g": testrepo.Text("g"),
		"/b/other": testrepo.Text(other),
	}
}

// Nodes mean the same across revisions; of what a revision left alone, only
// the directories above it get new ones.
func TestNodesAreStable(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(nestedTree("1"))
	r := openRepository(t, clientOf(t, repo))
	paths := []string{"/a/n/deep", "/a/n/deep/f", "/a/n/m", "/a/n/m/g"}
	before := map[string]view.Node{}
	for _, p := range append(paths, "/b/other", "/a/n") {
		before[p] = find(t, r, p)
	}
	root, attr := r.Root(), mustAttr(t, r, before["/b/other"])
	repo.Publish(nestedTree("22"))
	if _, err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if n := find(t, r, p); n != before[p] {
			t.Errorf("%s moved from %x to %x", p, before[p], n)
		}
	}
	if r.Root() == root || find(t, r, "/b/other") == before["/b/other"] {
		t.Error("what changed kept its node")
	}
	if got := mustAttr(t, r, before["/b/other"]); got != attr {
		t.Errorf("an old node changed: %+v, was %+v", got, attr)
	}
}

func mustAttr(t *testing.T, r *client.Repository, n view.Node) view.Attr {
	t.Helper()
	a, err := r.Attr(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A nested catalog is loaded when it is entered, once for all who wait, and
// not for being listed or looked at.
func TestNestedIsLazy(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(nestedTree("1"))
	r := openRepository(t, clientOf(t, repo))
	catalogs := func() int { return r.Status().Catalogs }
	names(t, r, "/a")
	n := find(t, r, "/a/n")
	mustAttr(t, r, n)
	if got := catalogs(); got != 1 {
		t.Errorf("%d catalogs for looking at a mountpoint", got)
	}
	before := repo.Requests("data/")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, _, err := r.Lookup(t.Context(), n, "deep"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := repo.Requests("data/") - before; got != 1 || catalogs() != 2 {
		t.Errorf("%d requests, %d catalogs", got, catalogs())
	}
}

// A context that is done is answered from memory or not at all.
func TestDoneContext(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(nestedTree("1"))
	r := openRepository(t, clientOf(t, repo))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	before := repo.Requests("data/")
	n, other := find(t, r, "/a/n"), find(t, r, "/b/other")
	if _, err := r.Attr(done, n); err != nil {
		t.Errorf("attributes: %v", err)
	}
	if _, _, err := r.Lookup(done, r.Root(), "nosuch"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent name: %v", err)
	}
	if _, _, err := r.Lookup(done, n, "deep"); !errors.Is(err, context.Canceled) {
		t.Errorf("catalog not loaded: %v", err)
	}
	if _, err := r.Open(done, other); !errors.Is(err, context.Canceled) {
		t.Errorf("content not cached: %v", err)
	}
	if repo.Requests("data/") != before {
		t.Error("a request was sent")
	}
	readPath(t, r, "/b/other")
	if s, err := content(done, r, other); s != "1" || err != nil {
		t.Errorf("content cached: %q, %v", s, err)
	}
	if r.Status().IOErrors != 0 {
		t.Errorf("%d errors counted", r.Status().IOErrors)
	}
}

// What is broken is an error, never an absence.
func TestBrokenIsNotAbsent(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(nestedTree("1"))
	r := openRepository(t, clientWithin(t, repo, 300*time.Millisecond))
	n := find(t, r, "/a/n")
	for name, fault := range map[string]http.HandlerFunc{
		"404": http.NotFound, "500": down, "hang": func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() },
		"rubbish": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("rubbish")) }, //nolint:errcheck // rubbish anyway
	} {
		repo.Fault("data/", fault)
		for _, try := range []func() error{
			func() error { _, _, err := r.Lookup(t.Context(), n, "deep"); return err },
			func() error { return r.ReadDir(t.Context(), n, 0, nil) },
			func() error { _, err := r.Open(t.Context(), find(t, r, "/b/other")); return err },
		} {
			if err := try(); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	repo.Fault("data/", nil)
	if got := readPath(t, r, "/a/n/deep/f"); got != "f" {
		t.Errorf("afterwards: %q", got)
	}
}

// gone fails like a store whose directory was removed.
type gone struct{ fetch.Fetcher }

func (gone) Fetch(context.Context, string, fetch.Options) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

// Not even an error that calls itself an absence passes for one.
func TestFailureIsNotAbsence(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	root := repo.Publish(nestedTree("1"))
	o := clientOf(t, repo)
	openRepository(t, o) // the root catalog is cached now
	o.RootHash, o.Fetcher = root, gone{}
	r := openRepository(t, o)
	if _, _, err := r.Find(t.Context(), "/a/n/deep"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("catalog: %v", err)
	}
	if _, err := r.Open(t.Context(), find(t, r, "/b/other")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("content: %v", err)
	}
}

// A signed repository that contradicts itself is caught, too.
func TestForeignCatalog(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	tree := nestedTree("1")
	repo.Publish(tree)
	r := openRepository(t, clientOf(t, repo))
	deep, err := r.Tree(t.Context(), "/a/n/m")
	if err != nil {
		t.Fatal(err)
	}
	liar := testrepo.Nested()
	liar.Foreign = deep.Catalog
	tree["/c"] = liar
	repo.Publish(tree)
	if _, err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Find(t.Context(), "/c/g"); !errors.Is(err, client.ErrInconsistent) {
		t.Errorf("a catalog of another place: %v", err)
	}
	if got := readPath(t, r, "/a/n/m/g"); got != "g" {
		t.Errorf("at its own place: %q", got)
	}
}

func TestHidden(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	secret := testrepo.Text("hidden")
	secret.Flags = catalog.Hidden
	repo.Publish(testrepo.Tree{"/a": testrepo.Text(""), "/b": secret, "/c": testrepo.Text(""), "/d": testrepo.Text("")})
	r := openRepository(t, clientOf(t, repo))
	if got := names(t, r, "/"); !slices.Equal(got, []string{"a", "c", "d"}) {
		t.Errorf("listed: %v", got)
	}
	var from2 []string
	err := r.ReadDir(t.Context(), r.Root(), 1, func(name string, _ view.Node, _ view.Attr) bool {
		from2 = append(from2, name)
		return false
	})
	if err != nil || !slices.Equal(from2, []string{"c"}) {
		t.Errorf("second entry: %v, %v", from2, err)
	}
	if got := readPath(t, r, "/b"); got != "hidden" {
		t.Errorf("%q", got)
	}
}

// A tree stays reachable by its catalog's hash, under nodes of its own, and
// nobody else's catalog does.
func TestRoots(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	tree := nestedTree("1")
	tree["/lone"] = testrepo.Nested()
	tree["/lone/x"] = testrepo.Text("x")
	repo.Publish(tree)
	o := clientOf(t, repo)
	r := openRepository(t, o)
	if slices.Contains(names(t, r, "/"), ".cvmfs") {
		t.Error("/.cvmfs is listed")
	}
	named, err := r.Tree(t.Context(), "/a/n")
	if err != nil {
		t.Fatal(err)
	}
	if got := readPath(t, r, named.Path+"/deep/f"); got != "f" {
		t.Errorf("%q", got)
	}
	if got := readPath(t, r, named.Path+"/m/g"); got != "g" {
		t.Errorf("a catalog below: %q", got)
	}
	if find(t, r, named.Path+"/deep") == find(t, r, "/a/n/deep") {
		t.Error("one directory node at two places")
	}
	if n := find(t, r, named.Path); n != named.Node || mustAttr(t, r, n).Mode != catalog.ModeDir|0o755 {
		t.Errorf("node %x, %+v", n, mustAttr(t, r, n))
	}
	if len(names(t, r, "/.cvmfs/roots")) != 0 || !slices.Equal(names(t, r, named.Path), []string{".cvmfscatalog", "deep", "m"}) {
		t.Error("listings of /.cvmfs/roots")
	}
	if _, err := r.Tree(t.Context(), "/a"); !errors.Is(err, view.ErrInvalid) {
		t.Errorf("no catalog of its own: %v", err)
	}

	pinned, err := r.Pin(named.Catalog, named.Size)
	if err != nil || pinned != named {
		t.Errorf("%+v, %v; want %+v", pinned, err, named)
	}
	repo.Publish(testrepo.Tree{"/all": testrepo.Text("is gone")})
	if _, err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := readPath(t, r, named.Path+"/deep/f"); got != "f" {
		t.Errorf("after the tree was removed: %q", got)
	}
	// A new process knows the tree only if somebody pins it again.
	r = openRepository(t, o)
	if _, _, err := r.Find(t.Context(), named.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not vouched for: %v", err)
	}
	if _, err := r.Pin(named.Catalog, named.Size); err != nil {
		t.Fatal(err)
	}
	if got := readPath(t, r, named.Path+"/deep/f"); got != "f" {
		t.Errorf("pinned: %q", got)
	}
	stranger := object.SHA1.Sum([]byte("stranger"))
	for _, bad := range []string{stranger.String(), "nohash", ".."} {
		if _, _, err := r.Lookup(t.Context(), find(t, r, "/.cvmfs/roots"), bad); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	r.Unpin(named.Catalog)
	r.Unpin(stranger)
}

// A repository's own /.cvmfs has its snapshots, and roots beside them.
func TestSnapshots(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	old := repo.Publish(nestedTree("1"))
	own, snapshot := testrepo.Nested(), testrepo.Dir()
	own.Flags, snapshot.Bind = catalog.Hidden, old
	tree := nestedTree("2")
	tree["/.cvmfs"], tree["/.cvmfs/snapshots/v1"] = own, snapshot
	repo.Publish(tree)
	r := openRepository(t, clientOf(t, repo))
	if got := readPath(t, r, "/.cvmfs/snapshots/v1/b/other"); got != "1" {
		t.Errorf("snapshot: %q", got)
	}
	if got := readPath(t, r, "/.cvmfs/snapshots/v1/a/n/m/g"); got != "g" {
		t.Errorf("nested in a snapshot: %q", got)
	}
	if find(t, r, "/.cvmfs/snapshots/v1/a/n/deep") == find(t, r, "/a/n/deep") {
		t.Error("one directory node at two places")
	}
	named, err := r.Tree(t.Context(), "/a/n")
	if err != nil {
		t.Fatal(err)
	}
	if got := readPath(t, r, named.Path+"/deep/f"); got != "f" {
		t.Errorf("roots: %q", got)
	}
	if slices.Contains(names(t, r, "/"), ".cvmfs") {
		t.Error("/.cvmfs is listed")
	}
	viewtest.Run(t, r)
}

func TestHardLinks(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	linked := testrepo.Text("same")
	linked.Links, linked.Group = 2, 1
	repo.Publish(testrepo.Tree{"/a": linked, "/b": linked, "/c": testrepo.Text("same")})
	r := openRepository(t, clientOf(t, repo))
	a, b, c := mustAttr(t, r, find(t, r, "/a")), mustAttr(t, r, find(t, r, "/b")), mustAttr(t, r, find(t, r, "/c"))
	if a.Ino != b.Ino || a.Ino == c.Ino || a.Ino == 0 || a.Links != 2 || c.Links != 1 {
		t.Errorf("inodes %x, %x, %x", a.Ino, b.Ino, c.Ino)
	}
}

// Readers, refreshes and detaching all at once.
func TestConcurrent(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(nestedTree("0"))
	o := clientOf(t, repo)
	o.MaxCatalogs = 1
	r := openRepository(t, o)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				for _, path := range []string{"/a/n/deep/f", "/a/n/m/g"} {
					n, _, err := r.Find(t.Context(), path)
					if err != nil {
						t.Error(err)
						return
					}
					if s, err := content(t.Context(), r, n); err != nil || s != path[len(path)-1:] {
						t.Errorf("%s: %q, %v", path, s, err)
					}
				}
				r.Status()
			}
		})
	}
	for range 5 {
		repo.Publish(nestedTree("x"))
		if _, err := r.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if got := r.Status().Catalogs; got != 1 {
		t.Errorf("%d catalogs mapped", got)
	}
}

func BenchmarkLookup(b *testing.B) {
	repo := testrepo.New(b, testrepo.Options{})
	repo.Publish(nestedTree("1"))
	r, err := client.Open(b.Context(), benchOptions(b, repo))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	n, _, err := r.Find(b.Context(), "/a/n/deep")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.Lookup(b.Context(), n, "f"); err != nil {
			b.Fatal(err)
		}
	}
}

var _ fetch.Alternator = (*fetch.Stack)(nil)
