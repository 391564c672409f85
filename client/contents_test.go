package client_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/internal/teststratum"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// noise is what compression cannot shorten.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b) //nolint:errcheck // never fails
	return b
}

func openAt(t *testing.T, url, name string, keys []*rsa.PublicKey, c *cache.Cache) *client.Repository {
	t.Helper()
	f, err := fetch.New(fetch.Config{Servers: []string{url}, Retries: -1, TimeoutDirect: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	r, err := client.Open(t.Context(), client.Options{Name: name, Fetcher: f, Trust: manifest.Trust{Keys: keys}, Cache: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func treeID(t *testing.T, hex string) imagemeta.TreeID {
	t.Helper()
	id, err := object.ParseContentID(hex)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// contentsOf returns what finds the contents of one tree in use.
func contentsOf(t *testing.T, c *cache.Cache, r *client.Repository, id imagemeta.TreeID) *client.Contents {
	t.Helper()
	s := client.NewContents(c)
	t.Cleanup(s.Close)
	if err := s.Use(t.Context(), r, id); err != nil {
		t.Fatal(err)
	}
	return s
}

func readContent(ctx context.Context, s *client.Contents, id object.ContentID) ([]byte, error) {
	c, err := s.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b := make([]byte, c.Size()+1)
	n, err := c.ReadAt(ctx, b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

func TestListing(t *testing.T) {
	s := teststratum.New(t, "trees.example.org")
	res := s.Files("demo", "1", map[string][]byte{"etc/motd": []byte("hello"), "bin/x": []byte("x")})
	r := openAt(t, s.URL, s.Name, s.Keys(), newCache(t, cache.Options{}))
	entries, err := r.Listing(t.Context(), treeID(t, res.Tree))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, e.Path)
	}
	if got := strings.Join(paths, " "); got != " bin bin/x etc etc/motd" {
		t.Errorf("entries %q", got)
	}
	if _, err := r.Listing(t.Context(), imagemeta.TreeID{1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("tree that is not there: %v", err)
	}
}

// A listing filed under another tree's id, be it signed, is not that tree's.
func TestListingOfAnotherTree(t *testing.T) {
	var listing, objects bytes.Buffer
	id, err := imagemeta.Encode(&listing, []imagemeta.Entry{{Mode: catalog.ModeDir | 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	if err := imagemeta.EncodeObjects(&objects, nil); err != nil {
		t.Fatal(err)
	}
	repo := testrepo.New(t, testrepo.Options{})
	other := imagemeta.TreeID{7}
	file := func(id imagemeta.TreeID, name string) string {
		return "/.rootstock/trees/" + id.CachePath()[:2] + "/" + id.String() + name
	}
	repo.Publish(testrepo.Tree{
		file(id, "/listing"):    testrepo.Bytes(listing.Bytes()),
		file(other, "/listing"): testrepo.Bytes(listing.Bytes()),
		file(other, "/objects"): testrepo.Text("no table"),
	})
	o := clientOf(t, repo)
	r, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if entries, err := r.Listing(t.Context(), id); err != nil || len(entries) != 1 {
		t.Errorf("its own: %v", err)
	}
	if _, err := r.Listing(t.Context(), other); !errors.Is(err, imagemeta.ErrMismatch) {
		t.Errorf("another's: %v", err)
	}
	s := client.NewContents(o.Cache)
	defer s.Close()
	if err := s.Use(t.Context(), r, other); !errors.Is(err, imagemeta.ErrInvalid) {
		t.Errorf("table that is none: %v", err)
	}
	if err := s.Use(t.Context(), r, id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("table that is not there: %v", err)
	}
}

func TestContentsOfATree(t *testing.T) {
	s := teststratum.New(t, "trees.example.org")
	files := map[string][]byte{"a": []byte("a small one"), "b": noise(1, 100_000), "empty": nil}
	res := s.Files("demo", "1", files)
	c := newCache(t, cache.Options{})
	r := openAt(t, s.URL, s.Name, s.Keys(), c)
	id := treeID(t, res.Tree)
	contents := contentsOf(t, c, r, id)

	entries, err := r.Listing(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := contents.Covers(r, id, entries); err != nil {
		t.Error(err)
	}
	entries[1].Size++ // "a"
	if err := contents.Covers(r, id, entries); !errors.Is(err, client.ErrInconsistent) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("size that differs: %v", err)
	}

	find(t, r, "/rootfs/demo/1/a") // the tree's catalog is here
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for name, want := range files {
		cid := object.ContentOf(want)
		if size, err := contents.Find(stopped, cid); err != nil || size != int64(len(want)) {
			t.Errorf("%s: %d bytes, %v", name, size, err)
		}
		if len(want) > 0 {
			if _, err := contents.Open(stopped, cid); !errors.Is(err, context.Canceled) {
				t.Errorf("%s without waiting: %v", name, err)
			}
		}
		before := s.Requests()
		for range 2 {
			if got, err := readContent(t.Context(), contents, cid); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
		if n := s.Requests() - before; n > 1 {
			t.Errorf("%s: %d requests", name, n)
		}
		if len(want) == 0 {
			continue
		}
		// It lies where the kernel looks for it, and the tree tier finds it too.
		if got, err := os.ReadFile(filepath.Join(c.Dir(), cid.CachePath())); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s in the cache: %d bytes, %v", name, len(got), err)
		}
		before = s.Requests()
		if got := readPath(t, r, "/rootfs/demo/1/"+name); got != string(want) {
			t.Errorf("%s through the tree: %d bytes", name, len(got))
		}
		if s.Requests() != before {
			t.Errorf("%s was fetched again", name)
		}
		if got, err := readContent(stopped, contents, cid); err == nil && !bytes.Equal(got, want) {
			t.Errorf("%s without waiting: %q", name, got)
		}
	}
	if _, err := contents.Find(t.Context(), object.ContentID{1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown content: %v", err)
	}
	// Two uses, two drops.
	if err := contents.Use(t.Context(), r, id); err != nil {
		t.Fatal(err)
	}
	contents.Drop(r, id)
	if _, err := contents.Find(t.Context(), object.ContentOf(files["a"])); err != nil {
		t.Errorf("still in use: %v", err)
	}
	contents.Drop(r, id)
	contents.Drop(r, id)
	if _, err := contents.Find(t.Context(), object.ContentOf(files["a"])); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no longer in use: %v", err)
	}
}

// The table of a tree that was used once is there without a server, also when
// the repository no longer has the tree.
func TestTableOutlivesTheServer(t *testing.T) {
	s := teststratum.New(t, "trees.example.org")
	res := s.Files("demo", "1", map[string][]byte{"a": []byte("a"), "b": []byte("b")})
	c := newCache(t, cache.Options{})
	r := openAt(t, s.URL, s.Name, s.Keys(), c)
	id := treeID(t, res.Tree)
	first := contentsOf(t, c, r, id)
	if _, err := readContent(t.Context(), first, object.ContentOf([]byte("a"))); err != nil {
		t.Fatal(err)
	}
	first.Drop(r, id)
	s.Fault(http.NotFound)
	again := contentsOf(t, c, r, id)
	if got, err := readContent(t.Context(), again, object.ContentOf([]byte("a"))); err != nil || string(got) != "a" {
		t.Errorf("cached content: %q, %v", got, err)
	}
	if _, err := readContent(t.Context(), again, object.ContentOf([]byte("b"))); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("content that cannot be had: %v; it must not pass for absent", err)
	}
	s.Fault(nil)
	if got, err := readContent(t.Context(), again, object.ContentOf([]byte("b"))); err != nil || string(got) != "b" {
		t.Errorf("once it can: %q, %v", got, err)
	}
}

func TestChunkedContentBecomesOneFile(t *testing.T) {
	s := teststratum.New(t, "trees.example.org")
	large := noise(3, 20<<20)
	res := s.Files("demo", "1", map[string][]byte{"large": large})
	c := newCache(t, cache.Options{})
	r := openAt(t, s.URL, s.Name, s.Keys(), c)
	contents := contentsOf(t, c, r, treeID(t, res.Tree))
	id := object.ContentOf(large)
	file := filepath.Join(c.Dir(), id.CachePath())

	content, err := contents.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	before := s.Requests()
	buf := make([]byte, 1000)
	if _, err := content.ReadAt(t.Context(), buf, 10<<20); err != nil || !bytes.Equal(buf, large[10<<20:][:1000]) {
		t.Fatalf("in the middle: %v", err)
	}
	if n := s.Requests() - before; n != 1 {
		t.Errorf("%d requests for a thousand bytes", n)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is one file already: %v", err)
	}
	if got, err := readContent(t.Context(), contents, id); err != nil || !bytes.Equal(got, large) {
		t.Fatalf("all of it: %d bytes, %v", len(got), err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		if _, err := os.Stat(file); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it never became one file")
		}
		time.Sleep(10 * time.Millisecond)
	}
	// The chunks go a moment later; closing would end the wait for that.
	for c.Stats().Bytes > int64(len(large))*11/10 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if st := c.Stats(); st.Bytes > int64(len(large))*11/10 || st.Discarded != 0 {
		t.Errorf("%d bytes in the cache, %d discarded; the chunks should have gone", st.Bytes, st.Discarded)
	}
	s.Fault(http.NotFound)
	// Open ones go on reading, and so does the tree tier.
	if n, err := content.ReadAt(t.Context(), buf, 19<<20); err != nil || !bytes.Equal(buf[:n], large[19<<20:][:1000]) {
		t.Errorf("afterwards: %d bytes, %v", n, err)
	}
	if got := readPath(t, openAgain(t, s, c, r), "/rootfs/demo/1/large"); got != string(large) {
		t.Errorf("through the tree: %d bytes", len(got))
	}
}

// openAgain is r once its catalogs are there.
func openAgain(t *testing.T, s *teststratum.Stratum, _ *cache.Cache, r *client.Repository) *client.Repository {
	t.Helper()
	s.Fault(nil)
	find(t, r, "/rootfs/demo/1/large")
	s.Fault(http.NotFound)
	return r
}

// Wrong bytes are never served, whatever the signed table says.
func TestContentThatIsNotItsDigest(t *testing.T) {
	repo, id, want := lying(t, 0)
	o := clientOf(t, repo)
	r, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	contents := contentsOf(t, o.Cache, r, id)
	if got, err := readContent(t.Context(), contents, want); err == nil || !errors.Is(err, cache.ErrContent) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(o.Cache.Dir(), want.CachePath())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is in the cache: %v", err)
	}
}

// lying is a repository whose tree's table names another object for the content
// want ("honest"), and states its size plus off.
func lying(t *testing.T, off int64) (repo *testrepo.Repo, id imagemeta.TreeID, want object.ContentID) {
	t.Helper()
	repo = testrepo.New(t, testrepo.Options{})
	want = object.ContentOf([]byte("honest"))
	wrong := []byte("forged")
	if off != 0 {
		wrong = []byte("honest")
	}
	repo.Publish(testrepo.Tree{"/x": testrepo.Bytes(wrong)})
	hash := object.SHAKE128.Sum(mustEncode(t, wrong))
	var objects bytes.Buffer
	if err := imagemeta.EncodeObjects(&objects, []imagemeta.Object{{
		ID: want, Stored: imagemeta.Stored{Size: int64(len(wrong)) + off, Compression: object.Zlib, Hash: hash},
	}}); err != nil {
		t.Fatal(err)
	}
	id = imagemeta.TreeID{byte(off), 9}
	repo.Publish(testrepo.Tree{
		"/x": testrepo.Bytes(wrong),
		"/.rootstock/trees/" + id.CachePath()[:2] + "/" + id.String() + "/objects": testrepo.Bytes(objects.Bytes()),
	})
	return repo, id, want
}

// What one repository says about a size is not believed where another says
// something else.
func TestRepositoriesThatDisagree(t *testing.T) {
	liar, lie, want := lying(t, 1)
	s := teststratum.New(t, "trees.example.org")
	res := s.Files("demo", "1", map[string][]byte{"x": []byte("honest")})
	o := clientOf(t, liar)
	l, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	contents := contentsOf(t, o.Cache, l, lie)
	if size, err := contents.Find(t.Context(), want); err != nil || size != 7 {
		t.Fatalf("alone, the liar says %d, %v", size, err)
	}
	if _, err := readContent(t.Context(), contents, want); err == nil {
		t.Error("a content of the wrong size was read")
	}
	r := openAt(t, s.URL, s.Name, s.Keys(), o.Cache)
	if err := contents.Use(t.Context(), r, treeID(t, res.Tree)); err != nil {
		t.Fatal(err)
	}
	if size, err := contents.Find(t.Context(), want); err != nil || size != 6 {
		t.Errorf("%d bytes, %v", size, err)
	}
	if got, err := readContent(t.Context(), contents, want); err != nil || string(got) != "honest" {
		t.Errorf("%q, %v", got, err)
	}
}

// What trees in use have is evicted last.
func TestContentsInUseAreHeld(t *testing.T) {
	s := teststratum.New(t, "trees.example.org")
	files, others := map[string][]byte{}, map[string][]byte{}
	for i := range 20 {
		files[fmt.Sprint(i)], others[fmt.Sprint(i)] = noise(uint64(i), 10_000), noise(uint64(100+i), 10_000)
	}
	used, unused := s.Files("used", "1", files), s.Files("unused", "1", others)
	c := newCache(t, cache.Options{})
	r := openAt(t, s.URL, s.Name, s.Keys(), c)
	contents := contentsOf(t, c, r, treeID(t, used.Tree))
	if err := contents.Use(t.Context(), r, treeID(t, unused.Tree)); err != nil {
		t.Fatal(err)
	}
	for _, all := range []map[string][]byte{files, others} { // used ones are older
		for _, b := range all {
			if _, err := readContent(t.Context(), contents, object.ContentOf(b)); err != nil {
				t.Fatal(err)
			}
		}
	}
	contents.Drop(r, treeID(t, unused.Tree))
	c.Evict(150_000)
	present := func(all map[string][]byte) (n int) {
		for _, b := range all {
			if c.Has(cache.Content(object.ContentOf(b))) {
				n++
			}
		}
		return n
	}
	if u, o := present(files), present(others); u != 20 || o > 5 {
		t.Errorf("%d of 20 contents in use and %d of 20 others are left", u, o)
	}
	c.Evict(1 << 30)
	if u := present(files); u != 0 {
		t.Errorf("%d contents were held for good: the hold is to be soft", u)
	}
}

func TestContentsConcurrently(t *testing.T) {
	s := teststratum.New(t, "trees.example.org")
	files := map[string][]byte{"large": noise(5, 9<<20), "a": noise(6, 1000)}
	res := s.Files("demo", "1", files)
	c := newCache(t, cache.Options{})
	r := openAt(t, s.URL, s.Name, s.Keys(), c)
	id := treeID(t, res.Tree)
	contents := contentsOf(t, c, r, id)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := contents.Use(t.Context(), r, id); err != nil {
				t.Error(err)
			}
			defer contents.Drop(r, id)
			for name, want := range files {
				if got, err := readContent(t.Context(), contents, object.ContentOf(want)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
			c.Evict(1 << 20)
		})
	}
	wg.Wait()
}

// Tables count as memory of the process while they are looked into, and no
// longer: those of fifty trees would be more than all else.
func TestTablesAtRest(t *testing.T) {
	files := map[string][]byte{}
	for i := range 200 {
		files[fmt.Sprint("f", i)] = fmt.Append(nil, "content ", i)
	}
	o := teststratum.New(t, "trees.example.org")
	id := treeID(t, o.Files("demo", "1", files).Tree)
	c := newCache(t, cache.Options{})
	r := openAt(t, o.URL, o.Name, o.Keys(), c)
	entries, err := r.Listing(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	s := contentsOf(t, c, r, id)
	if _, _, err := s.Usage(t.Context()); err != nil { // nobody counts it any more
		t.Fatal(err)
	}
	s.Rest()
	rest := mappedBelow(t, c.Dir())
	if err := s.Covers(r, id, entries); err != nil {
		t.Fatal(err)
	}
	if n := mappedBelow(t, c.Dir()); n != rest {
		t.Errorf("after a pass over the table %d kB are mapped, before it %d", n, rest)
	}
	if _, err := s.Find(t.Context(), object.ContentOf([]byte("content 7"))); err != nil {
		t.Fatal(err)
	}
	if n := mappedBelow(t, c.Dir()); n <= rest {
		t.Errorf("%d kB are mapped after a lookup: this test sees nothing", n)
	}
	s.Rest()
	if n := mappedBelow(t, c.Dir()); n != rest {
		t.Errorf("%d kB stay mapped after a lookup, before it %d", n, rest)
	}
}

// mappedBelow returns how many kB of files in a directory count as this
// process's memory.
func mappedBelow(t *testing.T, dir string) (total int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	below := false
	for line := range strings.Lines(string(b)) {
		var n int
		if f := strings.Fields(line); !strings.HasSuffix(f[0], ":") {
			below = strings.HasPrefix(f[len(f)-1], dir+"/")
		} else if _, err := fmt.Sscanf(line, "Rss: %d kB", &n); err == nil && below {
			total += n
		}
	}
	return total
}
