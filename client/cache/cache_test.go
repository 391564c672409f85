package cache_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

func open(t *testing.T, dir string, o cache.Options) *cache.Cache {
	t.Helper()
	o.SyncInterval = -1
	c, err := cache.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func opened(t *testing.T, o cache.Options) *cache.Cache {
	t.Helper()
	c := open(t, t.TempDir(), o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func key(n int) cache.Key { return cache.Object(object.SHA1.Sum(fmt.Append(nil, n)), object.Zstd) }

func payload(n, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%08d", n), size/8+1)[:size]
}

func writes(b []byte) func(context.Context, cache.Writer) error {
	return func(_ context.Context, w cache.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

func put(t *testing.T, c *cache.Cache, k cache.Key, b []byte) {
	t.Helper()
	f, err := c.Store(t.Context(), k, int64(len(b)), writes(b))
	if err != nil {
		t.Fatal(err)
	}
	f.Close() //nolint:errcheck // read only
}

func read(t *testing.T, c *cache.Cache, k cache.Key) ([]byte, bool) {
	t.Helper()
	f, ok := c.Lookup(t.Context(), k)
	if !ok {
		return nil, false
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b, true
}

// One content under several names is one inode, and each name finds it.
func TestNamesShareAnInode(t *testing.T) {
	c := opened(t, cache.Options{})
	b := []byte("some content")
	put(t, c, key(1), b)
	put(t, c, key(2), b)
	put(t, c, cache.Content(object.ContentOf(b)), b)
	if ok, err := c.Alias(key(1), key(3)); !ok || err != nil {
		t.Fatalf("alias: %v, %v", ok, err)
	}
	for _, k := range []cache.Key{key(1), key(2), key(3), cache.Content(object.ContentOf(b))} {
		if got, ok := read(t, c, k); !ok || !bytes.Equal(got, b) {
			t.Errorf("%v: %q, %v", k, got, ok)
		}
	}
	info, err := os.Stat(filepath.Join(c.Dir(), object.ContentOf(b).CachePath()))
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Nlink != 4 || info.Mode() != 0o444 {
		t.Errorf("%d links, mode %v; want 4, 0444", st.Nlink, info.Mode())
	}
	if s := c.Stats(); s.Contents != 1 || s.Bytes != int64(len(b)) {
		t.Errorf("%+v", s)
	}
	if dir, err := os.Stat(c.Dir()); err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("directory mode %v, %v", dir.Mode(), err)
	}
	if ok, err := c.Alias(key(9), key(10)); ok || err != nil {
		t.Errorf("alias of nothing: %v, %v", ok, err)
	}
}

// Names differ in everything that makes content differ.
func TestKeysDiffer(t *testing.T) {
	h := object.SHA1.Sum([]byte("x"))
	g := object.Hash{Algorithm: object.SHAKE128, Digest: h.Digest}
	one := []catalog.Chunk{{Size: 2, Hash: h}}
	keys := []cache.Key{
		cache.Object(h, object.Zlib), cache.Object(h, object.None), cache.Object(g, object.Zlib), cache.Index(h), cache.Index(g),
		cache.Chunked(object.Zlib, one), cache.Chunked(object.None, one),
		cache.Chunked(object.Zlib, []catalog.Chunk{{Size: 1, Hash: h}, {Offset: 1, Size: 1, Hash: h}}),
		cache.Chunked(object.Zlib, []catalog.Chunk{{Size: 2, Hash: g}}),
		cache.Content(object.ContentOf([]byte("x"))),
	}
	seen := map[cache.Key]int{}
	for i, k := range keys {
		if j, ok := seen[k]; ok {
			t.Errorf("keys %d and %d are equal", i, j)
		}
		seen[k] = i
	}
}

func TestNothingBadIsKept(t *testing.T) {
	c := opened(t, cache.Options{})
	b := []byte("right")
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		k    cache.Key
		size int64
		fill func(context.Context, cache.Writer) error
		want error
	}{
		"fill fails": {key(1), 5, func(_ context.Context, w cache.Writer) error {
			w.Write(b) //nolint:errcheck // the failure is the point
			return boom
		}, boom},
		"too short":     {key(1), 6, writes(b), cache.ErrContent},
		"too long":      {key(1), 4, writes(b), cache.ErrContent},
		"other content": {cache.Content(object.ContentOf([]byte("other"))), 5, writes(b), cache.ErrContent},
	} {
		f, err := c.Store(t.Context(), tc.k, tc.size, tc.fill)
		if !errors.Is(err, tc.want) || f != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.Has(tc.k) {
			t.Errorf("%s: kept", name)
		}
	}
	if list, err := os.ReadDir(filepath.Join(c.Dir(), "txn")); err != nil || len(list) != 0 {
		t.Errorf("left in txn: %v, %v", list, err)
	}
	f, err := c.Store(t.Context(), key(1), -1, func(_ context.Context, w cache.Writer) error {
		w.Write([]byte("wrong, and longer")) //nolint:errcheck // dropped
		if err := w.Reset(); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Close() //nolint:errcheck // read only
	if got, ok := read(t, c, cache.Content(object.ContentOf(b))); !ok || !bytes.Equal(got, b) {
		t.Errorf("after a reset: %q", got)
	}
}

func TestStorePath(t *testing.T) {
	c := opened(t, cache.Options{})
	f, err := c.StorePath(t.Context(), cache.Index(object.SHA1.Sum(nil)), func(_ context.Context, path string) error {
		return os.WriteFile(path, []byte("index"), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Close() //nolint:errcheck // read only
	if got, ok := read(t, c, cache.Index(object.SHA1.Sum(nil))); !ok || string(got) != "index" {
		t.Errorf("%q, %v", got, ok)
	}
	_, err = c.StorePath(t.Context(), key(5), func(context.Context, string) error { return nil })
	if !errors.Is(err, cache.ErrCannotStore) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file made: %v", err)
	}
}

func TestQuota(t *testing.T) {
	c := opened(t, cache.Options{Quota: 1000, LowWater: 500})
	for n := range 10 {
		put(t, c, key(n), payload(n, 100))
	}
	read(t, c, key(0)) // the oldest becomes the newest
	c.Pin(key(1))
	put(t, c, key(10), payload(10, 100))
	s := c.Stats()
	if s.Bytes > 500 || s.Pinned != 100 {
		t.Errorf("%+v", s)
	}
	for n, want := range map[int]bool{0: true, 1: true, 2: false, 3: false, 9: true, 10: true} {
		if c.Has(key(n)) != want {
			t.Errorf("content %d present: %v", n, !want)
		}
	}
	if n := files(t, c.Dir()); n != s.Contents*2 {
		t.Errorf("%d files on disk for %d contents with 2 names", n, s.Contents)
	}
	// Pins are soft: they go when there is nothing else.
	if freed := c.Evict(1 << 30); freed != s.Bytes || c.Has(key(1)) {
		t.Errorf("freed %d of %d", freed, s.Bytes)
	}
	c.Unpin(key(1))
	if _, err := c.Store(t.Context(), key(11), 1001, writes(nil)); !errors.Is(err, cache.ErrCannotStore) {
		t.Errorf("larger than the quota: %v", err)
	}
}

func files(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && len(d.Name()) == 62 {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Readers keep what they have open, whatever is evicted.
func TestEvictedStaysReadable(t *testing.T) {
	c := opened(t, cache.Options{})
	put(t, c, key(1), []byte("still here"))
	f, ok := c.Lookup(t.Context(), key(1))
	if !ok {
		t.Fatal("absent")
	}
	defer f.Close() //nolint:errcheck // read only
	c.Evict(1)
	if b, err := io.ReadAll(f); err != nil || string(b) != "still here" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestTwoDaemons(t *testing.T) {
	c := opened(t, cache.Options{})
	_, err := cache.Open(c.Dir(), cache.Options{})
	if !errors.Is(err, cache.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("%v", err)
	}
}

// tmpfs mounts a small file system, as a disk that is soon full.
func tmpfs(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("a full disk is not tested: mounting a tmpfs needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	c := open(t, tmpfs(t, 1<<20), cache.Options{})
	defer c.Close() //nolint:errcheck // nothing to keep
	for n := range 40 {
		put(t, c, key(n), payload(n, 100_000))
		if got, ok := read(t, c, key(n)); !ok || !bytes.Equal(got, payload(n, 100_000)) {
			t.Fatalf("content %d is wrong", n)
		}
	}
	if s := c.Stats(); s.Evictions == 0 || c.Cleanups(24*time.Hour) == 0 {
		t.Errorf("%+v, %d cleanups", s, c.Cleanups(24*time.Hour))
	}
	_, err := c.Store(t.Context(), key(99), 2<<20, writes(payload(99, 2<<20)))
	if !errors.Is(err, cache.ErrCannotStore) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("larger than the disk: %v", err)
	}
	put(t, c, key(100), payload(100, 1000))
}

func TestReadOnlyDisk(t *testing.T) {
	dir := tmpfs(t, 1<<20)
	c := open(t, dir, cache.Options{})
	put(t, c, key(1), []byte("kept"))
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	// The lock file is open for writing, which forbids the remount of a
	// tmpfs; a disk that turns read-only by itself does not ask.
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := c.Store(t.Context(), key(2), 1, writes([]byte("x")))
	if !errors.Is(err, cache.ErrCannotStore) {
		t.Errorf("read-only: %v", err)
	}
	if got, ok := read(t, c, key(1)); !ok || string(got) != "kept" {
		t.Errorf("%q, %v", got, ok)
	}
	// Lazily: the cache's upkeep may be looking.
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	remount(0)
	put(t, c, key(2), []byte("x"))
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestConcurrent(t *testing.T) {
	c := opened(t, cache.Options{Quota: 20_000, LowWater: 10_000})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				n := (i*7 + g*3) % 60
				f, err := c.Store(t.Context(), key(n), 1000, writes(payload(n, 1000)))
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(f)
				f.Close() //nolint:errcheck // read only
				if err != nil || !bytes.Equal(b, payload(n, 1000)) {
					t.Errorf("content %d is wrong: %v", n, err)
				}
				switch i % 50 {
				case 10:
					c.Evict(5000)
				case 20:
					c.Remove(key(n))
				case 30:
					c.Pin(key(n))
				case 40:
					c.Stats()
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkStore(b *testing.B) {
	c, err := cache.Open(b.TempDir(), cache.Options{SyncInterval: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // thrown away
	data := payload(1, 11_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		copy(data, fmt.Appendf(nil, "%08d", n))
		f, err := c.Store(b.Context(), key(n), int64(len(data)), writes(data))
		if err != nil {
			b.Fatal(err)
		}
		f.Close() //nolint:errcheck // read only
	}
}

func BenchmarkLookup(b *testing.B) {
	c, err := cache.Open(b.TempDir(), cache.Options{SyncInterval: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // thrown away
	f, err := c.Store(b.Context(), key(1), 1, writes([]byte("x")))
	if err != nil {
		b.Fatal(err)
	}
	f.Close() //nolint:errcheck // read only
	b.ReportAllocs()
	for b.Loop() {
		f, ok := c.Lookup(b.Context(), key(1))
		if !ok {
			b.Fatal("absent")
		}
		f.Close() //nolint:errcheck // read only
	}
}

// A hold is a pin on whatever contents it says yes to.
func TestHold(t *testing.T) {
	c := opened(t, cache.Options{})
	held := object.ContentOf(payload(3, 1000))
	c.Hold(func(id object.ContentID) bool { return id == held })
	for n := range 200 {
		put(t, c, key(n), payload(n, 1000))
	}
	for range 3 { // each time past the one that is held
		c.Evict(60_000)
	}
	if got := c.Stats().Contents; got != 20 || !c.Has(cache.Content(held)) {
		t.Errorf("%d contents left, held one among them: %v", got, c.Has(cache.Content(held)))
	}
	if c.Evict(1 << 30); c.Has(cache.Content(held)) {
		t.Error("a hold is soft")
	}
}

// Everything pinned: an eviction must end, and take what it needs.
func TestEvictWhatIsAllPinned(t *testing.T) {
	c := opened(t, cache.Options{})
	c.Hold(func(object.ContentID) bool { return true })
	for n := range 100 {
		put(t, c, key(n), payload(n, 1000))
	}
	if freed := c.Evict(30_000); freed != 30_000 {
		t.Errorf("freed %d bytes", freed)
	}
}

func TestDrop(t *testing.T) {
	c := opened(t, cache.Options{})
	put(t, c, key(1), payload(1, 100))
	put(t, c, key(2), payload(2, 100))
	c.Pin(key(2))
	for n := range 4 {
		c.Drop(key(n))
	}
	sum := object.ContentOf(payload(1, 100))
	if _, err := os.Stat(filepath.Join(c.Dir(), sum.CachePath())); !errors.Is(err, fs.ErrNotExist) || c.Has(key(1)) {
		t.Errorf("dropped content is there: %v", err)
	}
	if !c.Has(key(2)) {
		t.Error("pinned content was dropped")
	}
	if s := c.Stats(); s.Discarded != 0 || s.Evictions != 0 {
		t.Errorf("counted as damaged or evicted: %+v", s)
	}
}

// What goes by its own name is checked also where the disk is not asked.
func TestMemoryChecksContents(t *testing.T) {
	c := opened(t, cache.Options{})
	right := []byte("right")
	k := cache.Content(object.ContentOf(right))
	if b, err := c.Memory(t.Context(), k, 5, writes([]byte("wrong"))); !errors.Is(err, cache.ErrContent) {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := c.Memory(t.Context(), k, 5, writes(right)); err != nil || string(b) != "right" {
		t.Errorf("%q, %v", b, err)
	}
}

// Users of all containers read contents, whatever the daemon's umask is.
func TestModeIsNotTheUmasks(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	c := opened(t, cache.Options{})
	put(t, c, key(1), []byte("shown to everybody"))
	f, ok := c.Lookup(t.Context(), key(1))
	if !ok {
		t.Fatal("not there")
	}
	defer f.Close() //nolint:errcheck // read only
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// Nobody can make a content that is named as what something is stored as: not
// of the very bytes that such a name is made of.
func TestStoredNamesAreNoContents(t *testing.T) {
	h := object.SHA1.Sum([]byte("x"))
	one := append([]byte{'o', byte(object.Zlib), byte(h.Algorithm)}, h.Digest[:]...)
	if cache.Object(h, object.Zlib).ID() == object.ContentOf(one) {
		t.Error("the name of an object")
	}
	many := append([]byte{'c', byte(object.Zlib), byte(h.Algorithm)}, h.Digest[:]...)
	many = binary.LittleEndian.AppendUint64(many, 5)
	if cache.Chunked(object.Zlib, []catalog.Chunk{{Size: 5, Hash: h}}).ID() == object.ContentOf(many) {
		t.Error("the name of several")
	}
}
