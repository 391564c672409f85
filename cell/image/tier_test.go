package image_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/internal/teststratum"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) //nolint:errcheck // never fails
	return b
}

// host is a cell with one cache and any number of repositories.
type host struct {
	t     testing.TB
	dir   string
	log   strings.Builder
	cache *cache.Cache
	tier  *image.Tier
	stop  func()

	quota   int64                // of the cache
	delay   time.Duration        // of filling; see fills
	options func(*image.Options) // changes the tier's; may be nil
}

func newHost(t testing.TB) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	h := &host{t: t, dir: filepath.Join(t.TempDir(), "cache")}
	t.Cleanup(func() {
		// What held trees leave behind.
		left, err := filepath.Glob(h.dir + "/mnt/trees/*")
		check(t, err)
		for _, dir := range append(left, h.dir+"/mnt/objects") {
			if _, err := overlay.Unmount(context.Background(), dir); err != nil {
				t.Error(err)
			}
		}
	})
	return h
}

// start opens cache and tier and serves it until stop or the test's end.
func (h *host) start() {
	h.t.Helper()
	var err error
	h.cache, err = cache.Open(h.dir, cache.Options{SyncInterval: -1, Quota: h.quota})
	check(h.t, err)
	o := image.Options{Cache: h.cache, Retry: 10 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&h.log, nil))}
	if h.options != nil {
		h.options(&o)
	}
	h.tier, err = image.Open(h.t.Context(), o)
	if err != nil {
		h.cache.Close()
		if errors.Is(err, image.ErrUnsupported) {
			h.t.Skipf("SKIPPED: %v", err)
		}
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.tier.Serve(ctx) }()
	h.stop = func() {
		h.stop = func() {}
		cancel()
		if err := <-served; err != nil {
			h.t.Errorf("serve: %v", err)
		}
		h.tier.Close()
		if err := h.cache.Close(); err != nil {
			h.t.Error(err)
		}
	}
	h.t.Cleanup(func() { h.stop() })
	quiet(h.t, h.dir+"/mnt/objects")
}

// quiet keeps the Go runtime from polling files of our own mount: see
// fusefs/tree's tests.
func quiet(t testing.TB, dir string) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(fd)
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	check(t, err)
}

func (h *host) open(s *teststratum.Stratum) *client.Repository {
	h.t.Helper()
	f, err := fetch.New(fetch.Config{Servers: []string{s.URL}, Retries: -1, TimeoutDirect: time.Second})
	check(h.t, err)
	h.t.Cleanup(f.Close)
	r, err := client.Open(h.t.Context(), client.Options{
		Name: s.Name, Fetcher: f, Trust: manifest.Trust{Keys: s.Keys()}, Cache: h.cache,
	})
	check(h.t, err)
	h.t.Cleanup(r.Close)
	return r
}

func treeID(t testing.TB, hex string) imagemeta.TreeID {
	t.Helper()
	id, err := object.ParseContentID(hex)
	check(t, err)
	return id
}

// container mounts an overlay on layers as the plugin does, until the test ends
// or leave is called.
func (h *host) container(l image.Layers) (root string, leave func()) {
	h.t.Helper()
	dir := h.t.TempDir()
	for _, d := range []string{"upper", "work", "rootfs"} {
		check(h.t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	root = filepath.Join(dir, "rootfs")
	check(h.t, overlay.Mount(overlay.Layers{
		Lower: l.Lower, Data: l.Data, Options: l.Options,
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
	}, root))
	leave = func() {
		if _, err := overlay.Unmount(context.Background(), root); err != nil {
			h.t.Error(err)
		}
	}
	h.t.Cleanup(leave)
	return root, leave
}

// read does not go through Go's poller.
func read(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return readFD(fd)
}

func readFD(fd int) (string, error) {
	var all []byte
	for buf := make([]byte, 64<<10); ; {
		n, err := unix.Pread(fd, buf, int64(len(all)))
		if err != nil {
			return "", err
		}
		if n == 0 {
			return string(all), nil
		}
		all = append(all, buf[:n]...)
	}
}

func wantRead(t *testing.T, path, want string) {
	t.Helper()
	if got, err := read(path); err != nil || got != want {
		t.Errorf("%s: %.40q, %v; want %.40q", path, got, err, want)
	}
}

// requests are those the objects mount has had.
func (h *host) requests() uint64 { return h.tier.Stats().Requests }

func (h *host) mounts() (names []string) {
	h.t.Helper()
	list, err := os.ReadDir(h.dir + "/mnt/trees")
	check(h.t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestTree(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	res := s.Files("demo", "1", map[string][]byte{"etc/motd": []byte("hello"), "big": noise(1, 9<<20), "empty": nil})
	h := newHost(t)
	h.start()
	r := h.open(s)
	id := treeID(t, res.Tree)
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	root, leave := h.container(l)
	wantRead(t, root+"/etc/motd", "hello")
	wantRead(t, root+"/big", string(noise(1, 9<<20)))
	wantRead(t, root+"/empty", "")
	check(t, os.WriteFile(root+"/etc/motd", []byte("changed"), 0o600))
	wantRead(t, root+"/etc/motd", "changed")

	// A second container finds everything native: not one request to us.
	again, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	second, leave2 := h.container(again) // mounting asks each layer for the length of its names
	before := h.requests()
	wantRead(t, second+"/etc/motd", "hello")
	if n := h.requests() - before; n != 0 {
		t.Errorf("%d requests for a cached file", n)
	}
	h.tier.Release(r, id)
	if n := h.tier.Stats().Trees; n != 1 {
		t.Errorf("%d trees held", n)
	}
	leave2()
	leave()
	h.tier.Release(r, id)
	h.tier.Release(r, id) // one too many is no harm
	if left := h.mounts(); len(left) != 0 {
		t.Errorf("left mounted: %v", left)
	}
}

// The mount of a tree may go before the overlays on it.
func TestReleaseBeforeOverlay(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	res := s.Files("demo", "1", map[string][]byte{"a": []byte("a")})
	h := newHost(t)
	h.start()
	r, id := h.open(s), treeID(t, res.Tree)
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	root, _ := h.container(l)
	wantRead(t, root+"/a", "a")
	h.tier.Release(r, id)
	wantRead(t, root+"/a", "a")
	if left := h.mounts(); len(left) != 0 {
		t.Errorf("left mounted: %v", left)
	}
}

// What docs/kernel.md calls undefined for lower layers, and what we rely on.
func TestContentsThatComeAndGo(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	files := map[string][]byte{}
	for _, name := range []string{"late", "evicted", "open", "bound"} {
		files[name] = []byte(name + " content")
	}
	res := s.Files("demo", "1", files)
	h := newHost(t)
	h.start()
	r, id := h.open(s), treeID(t, res.Tree)
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	contents := client.NewContents(h.cache)
	defer contents.Close()
	check(t, contents.Use(t.Context(), r, id))
	bring := func(name string) string {
		t.Helper()
		c, err := contents.Open(t.Context(), object.ContentOf(files[name]))
		check(t, err)
		c.Close()
		return filepath.Join(h.dir, object.ContentOf(files[name]).CachePath())
	}
	evicted, open := bring("evicted"), bring("open")
	root, _ := h.container(l)

	before := h.requests()
	bring("late")
	wantRead(t, root+"/late", string(files["late"]))
	if n := h.requests() - before; n != 0 {
		t.Errorf("content that came after the mount: %d requests", n)
	}

	check(t, os.Remove(evicted))
	wantRead(t, root+"/evicted", string(files["evicted"]))
	if h.requests() == before {
		t.Error("content that went before its first lookup did not come through us")
	}
	if _, err := os.Stat(evicted); err != nil {
		t.Errorf("it is not back in the cache: %v", err)
	}

	fd, err := unix.Open(root+"/open", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(fd)
	check(t, os.Remove(open))
	if got, err := readFD(fd); err != nil || got != string(files["open"]) {
		t.Errorf("content that went while open: %q, %v", got, err)
	}
	wantRead(t, root+"/open", string(files["open"]))

	// Opened through us first: stays with us in this overlay, not in the next.
	wantRead(t, root+"/bound", string(files["bound"]))
	next, _ := h.container(l)
	before = h.requests()
	wantRead(t, next+"/bound", string(files["bound"]))
	if n := h.requests() - before; n != 0 {
		t.Errorf("%d requests in the next container", n)
	}
	h.tier.Release(r, id)
}

func TestErrors(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	res := s.Files("demo", "1", map[string][]byte{"a": []byte("a"), "b": []byte("b")})
	h := newHost(t)
	h.start()
	r, id := h.open(s), treeID(t, res.Tree)
	if _, err := h.tier.Acquire(t.Context(), r, imagemeta.TreeID{1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("tree that is not there: %v", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.tier.Acquire(done, r, id); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
	if n := h.tier.Stats().Trees; n != 0 || len(h.mounts()) != 0 {
		t.Errorf("failures hold %d trees, %v mounted", n, h.mounts())
	}
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	defer h.tier.Release(r, id)
	root, _ := h.container(l)
	wantRead(t, root+"/a", "a")
	s.Fault(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	if got, err := read(root + "/b"); !errors.Is(err, unix.EIO) {
		t.Errorf("content that cannot be had: %q, %v", got, err)
	}
	wantRead(t, root+"/a", "a")
	s.Fault(nil)
	wantRead(t, root+"/b", "b")
}

// A daemon that died leaves its mounts; the next one takes over those that
// containers stand on and removes the rest.
func TestRestart(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	kept := s.Files("kept", "1", map[string][]byte{"a": []byte("a"), "b": []byte("b")})
	dropped := s.Files("dropped", "1", map[string][]byte{"c": []byte("c")})
	h := newHost(t)
	h.start()
	r := h.open(s)
	keep, drop := treeID(t, kept.Tree), treeID(t, dropped.Tree)
	l, err := h.tier.Acquire(t.Context(), r, keep)
	check(t, err)
	_, err = h.tier.Acquire(t.Context(), r, drop)
	check(t, err)
	first, _ := h.container(l)
	wantRead(t, first+"/a", "a") // through us, and into the cache
	root, _ := h.container(l)
	wantRead(t, root+"/a", "a")
	h.stop()
	// The process is gone. What was cached goes on, all metadata too; not
	// because the kernel still has it in memory, which others may empty.
	next, _ := h.container(image.Layers{Lower: l.Lower, Data: l.Data[:1], Options: l.Options})
	for _, dir := range []string{root, next} {
		forget(t, dir+"/a")
		wantRead(t, dir+"/a", "a")
		if st, err := os.Stat(dir + "/b"); err != nil || st.Size() != 1 {
			t.Errorf("metadata: %v", err)
		}
	}
	if got, err := read(next + "/b"); err == nil {
		t.Errorf("content that nobody has: %q", got)
	}

	before := inode(t, l.Lower[0])
	s.Fault(http.NotFound) // nothing of this needs a server
	h.start()
	r = reopen(t, h, s)
	h.tier.Hold(t.Context(), r, keep, nil)
	// Its contents are known at once.
	if _, err := os.Lstat(filepath.Join(h.dir, "mnt/objects", object.ContentOf([]byte("b")).CachePath())); err != nil {
		t.Errorf("content of a held tree: %v", err)
	}
	check(t, h.tier.Sweep(t.Context()))
	if got := h.mounts(); len(got) != 1 || !strings.HasPrefix(got[0], kept.Tree) {
		t.Errorf("mounted: %v", got)
	}
	l, err = h.tier.Acquire(t.Context(), r, keep)
	check(t, err)
	if inode(t, l.Lower[0]) != before {
		t.Error("mounted anew instead of adopted")
	}
	third, _ := h.container(l)
	wantRead(t, third+"/a", "a")
	s.Fault(nil)
	wantRead(t, third+"/b", "b")
	h.tier.Release(r, keep)
	h.tier.Release(r, keep)
	if got := h.mounts(); len(got) != 0 {
		t.Errorf("still mounted: %v", got)
	}
}

// A held tree whose table cannot be had is tried again until it can.
func TestHoldBeforeTheServerIsThere(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	res := s.Files("demo", "1", map[string][]byte{"a": []byte("a")})
	h := newHost(t)
	h.start()
	r, id := h.open(s), treeID(t, res.Tree)
	s.Fault(http.NotFound)
	h.tier.Hold(t.Context(), r, id, nil)
	file := filepath.Join(h.dir, "mnt/objects", object.ContentOf([]byte("a")).CachePath())
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	s.Fault(nil)
	deadline := time.Now().Add(30 * time.Second)
	for _, err := os.Lstat(file); err != nil; _, err = os.Lstat(file) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
	wantRead(t, file, "a")
	h.tier.Release(r, id)
	if _, err := os.Lstat(h.dir + "/mnt/trees/" + id.String()); err == nil || h.tier.Stats().Trees != 0 {
		t.Error("still held")
	}
}

// reopen opens a repository whose server is down.
func reopen(t *testing.T, h *host, s *teststratum.Stratum) *client.Repository {
	t.Helper()
	return h.open(s)
}

// forget has the kernel drop what it has of a file's content.
func forget(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	check(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

func inode(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Stat(dir, &st))
	return st.Dev
}

// Mounts that somebody takes away by hand come back.
func TestMountsTakenAway(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	res := s.Files("demo", "1", map[string][]byte{"a": []byte("a"), "b": []byte("b"), "c": []byte("c")})
	h := newHost(t)
	h.start()
	r, id := h.open(s), treeID(t, res.Tree)
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	check(t, unix.Unmount(l.Lower[0], 0))
	check(t, unix.Unmount(l.Data[1], 0))
	deadline := time.Now().Add(30 * time.Second)
	for {
		var st unix.Statfs_t
		if unix.Statfs(l.Data[1], &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("objects mount not made again; log:\n%s", h.log.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
	l, err = h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	root, _ := h.container(l)
	wantRead(t, root+"/a", "a")

	// With a container on it, its connection lives on, and the next container
	// gets another.
	check(t, unix.Unmount(l.Data[1], 0))
	l, err = h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	next, _ := h.container(l)
	wantRead(t, next+"/b", "b")
	wantRead(t, root+"/c", "c")
	for range 3 {
		h.tier.Release(r, id)
	}
	if got := h.mounts(); len(got) != 0 {
		t.Errorf("still mounted: %v", got)
	}
}

// Acquire and Release race for one mountpoint.
func TestConcurrently(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	res := s.Files("demo", "1", map[string][]byte{"a": []byte("a")})
	h := newHost(t)
	h.start()
	r, id := h.open(s), treeID(t, res.Tree)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				l, err := h.tier.Acquire(t.Context(), r, id)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Lstat(l.Lower[0] + "/a"); err != nil {
					t.Errorf("acquired, yet not mounted: %v", err)
				}
				h.tier.Release(r, id)
			}
		})
	}
	wg.Wait()
	if n := h.tier.Stats().Trees; n != 0 || len(h.mounts()) != 0 {
		t.Errorf("%d trees held, %v mounted", n, h.mounts())
	}
}

// Two repositories with one tree share image and mount; either can go.
func TestTwoRepositories(t *testing.T) {
	a, b := teststratum.New(t, "image.example.org"), teststratum.New(t, "other.example.org")
	files := map[string][]byte{"a": []byte("a"), "b": []byte("b")}
	id := treeID(t, a.Files("demo", "1", files).Tree)
	if got := b.Files("demo", "7", files).Tree; got != id.String() {
		t.Fatalf("the same files are trees %s and %s", id, got)
	}
	h := newHost(t)
	h.start()
	ra, rb := h.open(a), h.open(b)
	la, err := h.tier.Acquire(t.Context(), ra, id)
	check(t, err)
	lb, err := h.tier.Acquire(t.Context(), rb, id)
	check(t, err)
	if la.Lower[0] != lb.Lower[0] {
		t.Errorf("mounted at %s and %s", la.Lower[0], lb.Lower[0])
	}
	root, _ := h.container(lb)
	a.Fault(http.NotFound) // the first one's server is down
	wantRead(t, root+"/a", "a")
	h.tier.Release(ra, id)
	wantRead(t, root+"/b", "b")
	if got := h.mounts(); len(got) != 1 {
		t.Errorf("mounted: %v", got)
	}
	h.tier.Release(rb, id)
}

func TestProbe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	dir := t.TempDir()
	// One that was killed left everything mounted.
	for _, d := range []string{"probe/root", "probe/tree"} {
		check(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
		check(t, unix.Mount("none", filepath.Join(dir, d), "tmpfs", 0, "size=16k"))
	}
	check(t, os.WriteFile(filepath.Join(dir, "probe/image"), nil, 0o600))
	if err := image.Probe(t.Context(), dir); err != nil && !errors.Is(err, image.ErrUnsupported) {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	check(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	if err := image.Probe(t.Context(), filepath.Join(dir, "file/below")); err == nil || errors.Is(err, image.ErrUnsupported) {
		t.Errorf("a directory that cannot be is not the kernel's fault: %v", err)
	}
}
