package image_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/internal/teststratum"
	"github.com/rootstock-cf/rootstock/object"
)

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func (h *host) cached(data []byte) bool { return h.cache.Has(cache.Content(object.ContentOf(data))) }

func opened(id imagemeta.TreeID, contents ...[]byte) profile.Document {
	p := profile.Profile{Process: "web"}
	for i, c := range contents {
		p.Opens = append(p.Opens, profile.Open{Content: object.ContentOf(c), Millis: int64(i)})
	}
	return profile.Document{Tree: id, Profiles: []profile.Profile{p}}
}

// On a cell that never saw the tree, what containers opened elsewhere comes
// without being asked for, the small ones in one request, and is then the
// kernel's: not one request reaches us.
func TestColdStartWithProfile(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	files := map[string][]byte{"large": noise(9, 9<<20), "never": []byte("never")}
	var small [][]byte
	for i := range 20 {
		small = append(small, fmt.Appendf(nil, "content %d", i))
		files[fmt.Sprintf("f%d", i)] = small[i]
	}
	id := treeID(t, s.Files("demo", "1", files).Tree)
	first := newHost(t)
	first.start()
	count := func(h *host, r *client.Repository) int64 {
		t.Helper()
		before := s.Requests()
		_, err := h.tier.Acquire(t.Context(), r, id)
		check(t, err)
		if h != first {
			eventually(t, "the profile's contents are cached", func() bool {
				return h.cached(files["large"]) && h.cached(small[19])
			})
		}
		return s.Requests() - before
	}
	r1 := first.open(s)
	without := count(first, r1)
	s.Profiles(opened(id, append(slices.Clone(small), files["large"])...))

	h := newHost(t)
	h.start()
	r2 := h.open(s)
	with := count(h, r2)
	// The catalog of the notes, the pack, and the large one's chunks.
	if more := with - without; more > 2+4 {
		t.Errorf("%d requests more for 21 contents", more)
	}
	if h.cached(files["never"]) {
		t.Error("a content was fetched that no container had opened")
	}
	l, err := h.tier.Acquire(t.Context(), r2, id)
	check(t, err)
	root, leave := h.container(l)
	defer leave()
	before := h.requests()
	for i := range small {
		wantRead(t, fmt.Sprintf("%s/f%d", root, i), string(small[i]))
	}
	wantRead(t, root+"/large", string(files["large"]))
	if n := h.requests() - before; n != 0 {
		t.Errorf("%d requests for contents that were there", n)
	}
	for range 2 {
		h.tier.Release(r2, id)
	}
	first.tier.Release(r1, id)
}

// A cell that cannot have the pack starts as without.
func TestStartupPackCannotBeHad(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	id := treeID(t, s.Files("demo", "1", map[string][]byte{"a": []byte("a"), "b": []byte("b")}).Tree)
	s.Profiles(opened(id, []byte("a")))
	pack := s.Object("/.rootstock/notes/" + id.String()[:2] + "/" + id.String() + "/startup.pack")
	s.Fault(s.Except(pack, http.NotFound))
	h := newHost(t)
	h.start()
	r := h.open(s)
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	root, leave := h.container(l)
	wantRead(t, root+"/a", "a")
	leave()
	h.tier.Release(r, id)
	h.stop()
	if !bytes.Contains([]byte(h.log.String()), []byte("startup pack not used")) {
		t.Errorf("nothing is said of it: %s", h.log.String())
	}
}

// fills makes the host's tier fetch what trees lack at once.
func (h *host) fills(patience time.Duration) {
	h.options = func(o *image.Options) {
		o.FillRate, o.FillDelay, o.FillPause, o.FillPatience = 1<<30, cmp.Or(h.delay, time.Nanosecond), 5*time.Millisecond, patience
	}
}

// A tree in use becomes the kernel's alone, and stays complete without us.
func TestFill(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	files := map[string][]byte{"a": []byte("a"), "large": noise(4, 20<<20), "empty": nil}
	id := treeID(t, s.Files("demo", "1", files).Tree)
	h := newHost(t)
	h.fills(time.Hour)
	h.start()
	r := h.open(s)
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	eventually(t, "nothing of the tree is absent", func() bool {
		e, err := h.tier.Exposure(t.Context())
		check(t, err)
		return e.Bytes == 0
	})
	root, leave := h.container(l)
	s.Fault(http.NotFound)
	before := h.requests()
	for name, want := range files {
		wantRead(t, root+"/"+name, string(want))
	}
	if n := h.requests() - before; n != 0 {
		t.Errorf("%d requests", n)
	}
	leave()
	h.tier.Release(r, id)
}

// Filling waits for those who wait for something.
func TestFillStandsBack(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	files := map[string][]byte{}
	for i := range 50 {
		files[fmt.Sprint(i)] = noise(byte(i+1), 1000)
	}
	wanted := noise(200, 1000)
	files["wanted"] = wanted
	id := treeID(t, s.Files("demo", "1", files).Tree)
	h := newHost(t)
	h.fills(time.Hour)
	h.delay = 400 * time.Millisecond
	h.start()
	r := h.open(s)
	var others atomic.Int64
	var once sync.Once
	asked, release := make(chan struct{}), make(chan struct{})
	one := s.Object("/rootfs/demo/1/wanted")
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	root, leave := h.container(l)
	s.Fault(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, one) {
			once.Do(func() { close(asked) })
			<-release
		} else {
			others.Add(1)
		}
		s.Serve(w, req)
	})
	done := make(chan error, 1)
	go func() { _, err := read(root + "/wanted"); done <- err }()
	<-asked
	time.Sleep(50 * time.Millisecond) // what was under way ends
	before := others.Load()
	time.Sleep(2 * h.delay)
	if n := others.Load() - before; n != 0 {
		t.Errorf("%d requests while somebody waited", n)
	}
	close(release)
	check(t, <-done)
	eventually(t, "it goes on afterwards", func() bool {
		e, err := h.tier.Exposure(t.Context())
		check(t, err)
		return e.Bytes == 0
	})
	leave()
	h.tier.Release(r, id)
}

// A cache that is nearly full keeps what it has.
func TestFillKeepsToTheQuota(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	files := map[string][]byte{}
	for i := range 40 {
		files[fmt.Sprint(i)] = noise(byte(i+1), 100_000)
	}
	id := treeID(t, s.Files("demo", "1", files).Tree)
	h := newHost(t)
	h.quota = 2 << 20
	h.fills(time.Hour)
	h.start()
	r := h.open(s)
	_, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	eventually(t, "it is as full as it may be", func() bool { return h.cache.Stats().Bytes > 1500<<10 })
	time.Sleep(100 * time.Millisecond)
	if st := h.cache.Stats(); st.Bytes > st.Quota*95/100 || st.Evictions != 0 {
		t.Errorf("%d of %d bytes, %d evictions", st.Bytes, st.Quota, st.Evictions)
	}
	h.tier.Release(r, id)
}

func TestExposure(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	id := treeID(t, s.Files("demo", "1", map[string][]byte{"a": noise(1, 1000), "b": noise(2, 500), "c": noise(1, 1000)}).Tree)
	h := newHost(t)
	h.start()
	r := h.open(s)
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	root, leave := h.container(l)
	exposure := func() image.Exposure {
		t.Helper()
		e, err := h.tier.Exposure(t.Context())
		check(t, err)
		return e
	}
	if e := exposure(); e.Bytes != 1500 || e.Bound != 0 || e.Trees[id] != 1500 {
		t.Errorf("at first: %+v", e)
	}
	wantRead(t, root+"/a", string(noise(1, 1000)))
	if e := exposure(); e.Bytes != 500 || e.Bound != 1 {
		t.Errorf("after one read: %+v", e)
	}
	wantRead(t, root+"/c", string(noise(1, 1000))) // the same content, and cached
	if e := exposure(); e.Bytes != 500 || e.Bound != 1 {
		t.Errorf("after another of its names: %+v", e)
	}
	leave()
	h.tier.Release(r, id)
	eventually(t, "nothing is exposed without trees", func() bool { e := exposure(); return e.Bytes == 0 && e.Bound == 0 })
}

// What looks like a layer's signs is content like any other. Overlayfs' own (the
// device 0:0, trusted.overlay.*, user.overlay.*) are refused when publishing: see
// publisher/flatten.
func TestNamesOfWhiteouts(t *testing.T) {
	s := teststratum.New(t, "image.example.org")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"d/", "d/.wh.x", "d/x", "d/.wh..wh..opq", ".wh.d", "d/.wh..wh.plnk/", "d/.wh..wh.plnk/1"} {
		e := tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(name))}
		if name[len(name)-1] == '/' {
			e.Typeflag, e.Mode, e.Size = tar.TypeDir, 0o755, 0
		}
		check(t, w.WriteHeader(&e))
		if e.Size > 0 {
			_, err := w.Write([]byte(name))
			check(t, err)
		}
	}
	// A device, but not the one that overlayfs takes for a deleted file.
	check(t, w.WriteHeader(&tar.Header{Name: "d/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}))
	check(t, w.WriteHeader(&tar.Header{Name: "d/y", Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: map[string]string{
		"SCHILY.xattr.user.over": "y", "SCHILY.xattr.trusted.other": "t",
	}}))
	check(t, w.Close())
	archive := filepath.Join(t.TempDir(), "odd.tar")
	check(t, os.WriteFile(archive, b.Bytes(), 0o600))
	id := treeID(t, s.Rootfs("odd", "1", archive).Tree)
	h := newHost(t)
	h.start()
	r := h.open(s)
	l, err := h.tier.Acquire(t.Context(), r, id)
	check(t, err)
	root, leave := h.container(l)
	for _, name := range []string{"d/.wh.x", "d/x", "d/.wh..wh..opq", ".wh.d", "d/.wh..wh.plnk/1"} {
		wantRead(t, root+"/"+name, name)
	}
	var st unix.Stat_t
	check(t, unix.Lstat(root+"/d/null", &st))
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("device: mode %o, %x", st.Mode, st.Rdev)
	}
	for name, want := range map[string]string{"user.over": "y", "trusted.other": "t"} {
		got := make([]byte, 10)
		if n, err := unix.Lgetxattr(root+"/d/y", name, got); err != nil || string(got[:n]) != want {
			t.Errorf("%s: %q, %v", name, got[:max(n, 0)], err)
		}
	}
	names, err := os.ReadDir(root + "/d")
	check(t, err)
	if len(names) != 6 {
		t.Errorf("d lists %v", names)
	}
	// What the container deletes stays deleted, whatever its name.
	check(t, os.Remove(root+"/d/.wh.x"))
	if _, err := os.Lstat(root + "/d/.wh.x"); !os.IsNotExist(err) {
		t.Error(err)
	}
	wantRead(t, root+"/d/x", "d/x")
	leave()
	h.tier.Release(r, id)
}
