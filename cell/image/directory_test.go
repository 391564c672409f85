package image_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/internal/teststratum"
)

// compile makes a directory, below the root of a catalog, into a tree.
func compile(t testing.TB, r *client.Repository, catalog, below string) (*client.Compiled, error) {
	t.Helper()
	at, err := r.Tree(t.Context(), catalog)
	check(t, err)
	return r.Compile(t.Context(), client.Directory{Catalog: at.Catalog, Size: at.Size, Path: below})
}

// A directory and a tree with the same files share what is cached of them, in
// either order.
func TestDirectorySharesContents(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	large := string(noise(9, 20<<20)) // in pieces
	res := s.Files("demo", "1", map[string][]byte{"d/a": []byte("first here"), "d/b": []byte("first there"), "d/large": []byte(large), "d/other": []byte(large[:9<<20] + "x" + large[9<<20:])})
	h := newHost(t)
	h.start()
	r, id := h.open(s), treeID(t, res.Tree)
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	tree, _ := h.container(l)
	c, err := compile(t, r, "/rootfs/demo/1", "/d")
	check(t, err)
	if l, err = h.tier.AcquireDirectory(t.Context(), r, c); err != nil {
		t.Fatal(err)
	}
	directory, _ := h.container(l)

	wantRead(t, tree+"/d/a", "first here")
	wantRead(t, tree+"/d/large", large)
	wantRead(t, directory+"/b", "first there")
	whole(t, h, 3)
	s.Fault(http.NotFound)
	before := h.requests()
	wantRead(t, directory+"/a", "first here")
	wantRead(t, directory+"/large", large)
	wantRead(t, tree+"/d/b", "first there")
	if n := h.requests() - before; n != 0 {
		t.Errorf("%d requests for what the other's containers have read", n)
	}
	s.Fault(nil)
	wantRead(t, directory+"/other", large[:9<<20]+"x"+large[9<<20:])
	whole(t, h, 4)
	if e, err := h.tier.Exposure(t.Context()); err != nil || e.Trees[c.ID] != 0 {
		t.Errorf("exposure %+v, %v", e, err)
	}
	h.tier.Release(r, c.ID)
	h.tier.Release(r, id)
}

// whole waits until so many contents are cached in one piece.
func whole(t *testing.T, h *host, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		found, err := filepath.Glob(filepath.Join(h.dir, cache.StoredDir, "??", "*"))
		check(t, err)
		var large int
		for _, name := range found {
			if st, err := os.Stat(name); err == nil && st.Size() >= 20<<20 {
				large++
			}
		}
		if large >= n-2 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d large contents under %d names, want %d", large, len(found), n-2)
		}
	}
}

// Many ask for a directory at once, of a server that is slow.
func TestDirectoryAtOnce(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	s.Files("demo", "1", map[string][]byte{"d/a": []byte("a")})
	h := newHost(t)
	h.start()
	r := h.open(s)
	var all sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]bool{}
	for range 20 {
		all.Go(func() {
			c, err := compile(t, r, "/rootfs/demo/1", "")
			if err == nil {
				_, err = h.tier.AcquireDirectory(t.Context(), r, c)
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[c.ID.String()] = true
		})
	}
	all.Wait()
	if got := h.mounts(); len(got) != 1 || len(ids) != 1 {
		t.Errorf("%d trees, mounted: %v", len(ids), got)
	}
}

// What a held directory lacks is made again of its catalogs when it can be.
func TestHoldDirectory(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	s.Files("demo", "1", map[string][]byte{"d/a": []byte("a"), "d/b": []byte("b")})
	h := newHost(t)
	h.start()
	r := h.open(s)
	c, err := compile(t, r, "/rootfs/demo/1", "/d")
	check(t, err)
	l, err := h.tier.AcquireDirectory(t.Context(), r, c)
	check(t, err)
	root, leave := h.container(l)
	wantRead(t, root+"/a", "a")
	entries, err := c.Listing(t.Context())
	check(t, err)
	h.stop()
	r.Close()

	// The table is lost while nobody is there, and the server is away.
	s.Fault(http.NotFound)
	h.start()
	r = h.open(s)
	h.cache.Remove(cache.Table(s.Name, c.ID))
	h.cache.Remove(cache.Index(c.Catalog))
	h.tier.Hold(t.Context(), r, c.ID, &c.Directory)
	check(t, h.tier.Sweep(t.Context()))
	leave()
	next, _ := h.container(image.Layers{Lower: l.Lower, Data: l.Data, Options: l.Options})
	wantRead(t, next+"/a", "a")
	b := entries[2]
	file := filepath.Join(h.dir, "mnt/objects", b.Content.CachePath())
	if _, err := os.Lstat(file); b.Path != "b" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: %s, %v", b.Path, err)
	}
	s.Fault(nil)
	deadline := time.Now().Add(30 * time.Second)
	for _, err := os.Lstat(file); err != nil; _, err = os.Lstat(file) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
	wantRead(t, next+"/b", "b")
	h.tier.Release(r, c.ID)
	if got := h.mounts(); len(got) != 0 {
		t.Errorf("still mounted: %v", got)
	}
}

// A held directory whose table is there reads what was never cached.
func TestHoldDirectoryWithTable(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	s.Files("demo", "1", map[string][]byte{"d/a": []byte("a")})
	h := newHost(t)
	h.start()
	r := h.open(s)
	c, err := compile(t, r, "/rootfs/demo/1", "/d")
	check(t, err)
	l, err := h.tier.AcquireDirectory(t.Context(), r, c)
	check(t, err)
	h.stop()
	r.Close()
	h.start()
	r = h.open(s)
	h.tier.Hold(t.Context(), r, c.ID, &c.Directory)
	root, _ := h.container(l)
	wantRead(t, root+"/a", "a")
	h.tier.Release(r, c.ID)
}
