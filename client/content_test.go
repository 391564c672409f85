package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
)

func benchOptions(b *testing.B, repo *testrepo.Repo) client.Options {
	b.Helper()
	f, err := fetch.New(fetch.Config{Servers: []string{repo.URL}})
	if err != nil {
		b.Fatal(err)
	}
	c, err := cache.Open(b.TempDir(), cache.Options{SyncInterval: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close(); c.Close() }) //nolint:errcheck // thrown away
	return client.Options{Name: repo.Name, Fetcher: f, Trust: repo.Trust(), Cache: c}
}

func pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d\n", i*i)
	}
	return b.Bytes()[:n]
}

// All compressions and hashes, whole and in chunks.
func TestContents(t *testing.T) {
	data := pattern(100_000)
	for _, c := range []object.Compression{object.Zlib, object.None, object.Zstd} {
		for _, a := range []object.Algorithm{object.SHA1, object.RMD160, object.SHAKE128} {
			repo := testrepo.New(t, testrepo.Options{Compression: c, Algorithm: a})
			repo.Publish(testrepo.Tree{"/whole": testrepo.Bytes(data), "/cut": testrepo.Chunks(data, 7000), "/empty": testrepo.Bytes(nil)})
			r := openRepository(t, clientOf(t, repo))
			for path, want := range map[string]string{"/whole": string(data), "/cut": string(data), "/empty": ""} {
				if got := readPath(t, r, path); got != want {
					t.Errorf("%s, %s: %s has %d bytes", c, a, path, len(got))
				}
			}
		}
	}
}

// Of a chunked file, only what is touched is fetched.
func TestChunksAreLazy(t *testing.T) {
	data := pattern(100_000)
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/cut": testrepo.Chunks(data, 10_000)})
	r := openRepository(t, clientOf(t, repo))
	before := repo.Requests("data/")
	c, err := r.Open(t.Context(), find(t, r, "/cut"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // read only
	for _, at := range []struct {
		off, n   int
		requests int
	}{{25_000, 100, 1}, {29_950, 100, 2}, {29_950, 100, 2}, {99_990, 10, 3}} {
		p := make([]byte, at.n)
		n, err := c.ReadAt(t.Context(), p, int64(at.off))
		if n != at.n || err != nil || !bytes.Equal(p, data[at.off:at.off+at.n]) {
			t.Errorf("%d bytes at %d: %d, %v", at.n, at.off, n, err)
		}
		if got := repo.Requests("data/") - before; got != at.requests {
			t.Errorf("at %d: %d requests, want %d", at.off, got, at.requests)
		}
	}
	p := make([]byte, 20)
	if n, err := c.ReadAt(t.Context(), p, 99_990); n != 10 || !errors.Is(err, io.EOF) {
		t.Errorf("across the end: %d, %v", n, err)
	}
	if n, err := c.ReadAt(t.Context(), p, 200_000); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("beyond the end: %d, %v", n, err)
	}
	if _, err := c.ReadAt(t.Context(), p, -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("before the beginning: %v", err)
	}
}

func TestExternal(t *testing.T) {
	data := pattern(50_000)
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/n/ext") {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", timeZero, bytes.NewReader(data))
	}))
	defer outside.Close()
	external := func(chunks ...catalog.Chunk) testrepo.Entry {
		e := testrepo.Bytes(nil)
		e.Keep, e.Flags, e.Size, e.Compression, e.Algorithm = true, catalog.External, int64(len(data)), object.None, object.SHA1
		e.Hash = object.SHA1.Sum(data)
		if chunks != nil {
			e.Flags |= catalog.Chunked
			e.Hash, e.Chunks = object.Hash{}, chunks
		}
		return e
	}
	wrong := external()
	wrong.Hash = object.SHA1.Sum([]byte("other"))
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{
		"/n": testrepo.Nested(), "/n/ext": external(), "/n/ext-wrong": wrong, "/missing": external(),
		"/n/ext-cut": external(
			catalog.Chunk{Size: 30_000, Hash: object.SHA1.Sum(data[:30_000])},
			catalog.Chunk{Offset: 30_000, Size: 20_000, Hash: object.SHA1.Sum(data[30_000:])},
		),
	})
	o := clientOf(t, repo)
	r := openRepository(t, o)
	if _, err := r.Open(t.Context(), find(t, r, "/n/ext")); !errors.Is(err, client.ErrExternal) || !strings.Contains(err.Error(), "/n/ext") {
		t.Errorf("not configured: %v", err)
	}
	f, err := fetch.New(fetch.Config{Servers: []string{outside.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o.External = f
	r = openRepository(t, o)
	for _, path := range []string{"/n/ext-cut", "/n/ext"} {
		if got := readPath(t, r, path); got != string(data) {
			t.Errorf("%s: %d bytes", path, len(got))
		}
	}
	if _, err := r.Open(t.Context(), find(t, r, "/n/ext-wrong")); !errors.Is(err, fetch.ErrCorrupt) {
		t.Errorf("changed outside: %v", err)
	}
	if got := mustXAttr(t, r, find(t, r, "/n/ext"), "user.external_file"); got != "1" {
		t.Errorf("user.external_file %q", got)
	}
}

// When the disk is full of nothing that could go, files are read all the same.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a full disk is not tested: mounting a tmpfs needs root: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // the cache is closed before
	c, err := cache.Open(dir, cache.Options{SyncInterval: -1, Memory: 3 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // thrown away
	data := pattern(2 << 20)
	repo := testrepo.New(t, testrepo.Options{Compression: object.Zstd})
	repo.Publish(testrepo.Tree{
		"/big": testrepo.Bytes(data), "/cut": testrepo.Chunks(data, 2<<20), "/huge": testrepo.Bytes(pattern(4 << 20)),
		"/small": testrepo.Text("small"),
	})
	o := clientOf(t, repo)
	o.Cache = c
	r := openRepository(t, o)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := content(t.Context(), r, find(t, r, "/big")); err != nil || got != string(data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	// Later readers, and readers of further pieces, find it in memory.
	before := repo.Requests("data/")
	readPath(t, r, "/big")
	if got := repo.Requests("data/") - before; got != 0 {
		t.Errorf("%d requests for what is held in memory", got)
	}
	if got := readPath(t, r, "/cut"); got != string(data) {
		t.Errorf("chunked: %d bytes", len(got))
	}
	if _, err := content(t.Context(), r, find(t, r, "/huge")); !errors.Is(err, cache.ErrCannotStore) {
		t.Errorf("more than may be held in memory: %v", err)
	}
	if got := readPath(t, r, "/small"); got != "small" {
		t.Errorf("%q", got)
	}
	if !c.Has(cache.Content(object.ContentOf([]byte("small")))) {
		t.Error("what fits is not cached any more")
	}
}

// Two rows that disagree about one object's size cannot both be right.
func TestSizesDisagree(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("four")})
	r := openRepository(t, clientOf(t, repo))
	readPath(t, r, "/f")
	liar := testrepo.Bytes(nil)
	hash, err := object.ParseHash(mustXAttr(t, r, find(t, r, "/f"), "user.hash"))
	if err != nil {
		t.Fatal(err)
	}
	liar.Keep, liar.Hash, liar.Algorithm, liar.Size = true, hash, hash.Algorithm, 5
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("four"), "/g": liar})
	if _, err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(t.Context(), find(t, r, "/g")); !errors.Is(err, client.ErrInconsistent) {
		t.Errorf("%v", err)
	}
}
