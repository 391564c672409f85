package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/erofs"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
)

// directoryAt is the directory at a path below that of a catalog's root.
func directoryAt(t *testing.T, r *client.Repository, root, below string) client.Directory {
	t.Helper()
	at, err := r.Tree(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return client.Directory{Catalog: at.Catalog, Size: at.Size, Path: below}
}

func compile(t *testing.T, r *client.Repository, d client.Directory) (*client.Compiled, []imagemeta.Entry) {
	t.Helper()
	c, err := r.Compile(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := c.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, entries
}

// linked is a name of a hard link group.
func linked(text string, group uint32) testrepo.Entry {
	e := testrepo.Text(text)
	e.Links, e.Group = 2, group
	return e
}

func special(mode uint32, dev uint64) (e testrepo.Entry) {
	e.Mode, e.Size, e.Links = mode, int64(dev), 1
	return e
}

// peculiar is a directory with one of everything, in three catalogs.
func peculiar() testrepo.Tree {
	hidden := testrepo.Text("hidden")
	hidden.Flags = catalog.Hidden
	owned := testrepo.Text("owned")
	owned.UID, owned.GID, owned.MTime, owned.MTimeNS = 7, 8, -5, 999
	owned.XAttrs = []catalog.XAttr{{Name: "security.capability", Value: []byte{1}}, {Name: "user.rootstock.tree", Value: []byte("x")}}
	other := linked("one", 2) // the group says so, the content does not
	other.UID = 9
	return testrepo.Tree{
		"/flat":                         testrepo.Nested(),
		"/flat/.cvmfscatalog":           testrepo.Text(""),
		"/flat/a":                       linked("first", 1),
		"/flat/b":                       testrepo.Dir(),
		"/flat/b/x":                     linked("twin", 3),
		"/flat/b/y":                     linked("twin", 3),
		"/flat/c":                       linked("first", 1),
		"/flat/chunked":                 testrepo.Chunks(noise(1, 5000), 2048),
		"/flat/empty":                   testrepo.Text(""),
		"/flat/hidden":                  hidden,
		"/flat/link":                    testrepo.Link("$(ONE)/x$(TWO:-two)"),
		"/flat/nested":                  testrepo.Nested(),
		"/flat/nested/.cvmfscatalog":    testrepo.Text(""),
		"/flat/nested/deep":             testrepo.Nested(),
		"/flat/nested/deep/same":        testrepo.Text("first"),
		"/flat/nested/deep/null":        special(catalog.ModeChar|0o666, unix.Mkdev(1, 3)),
		"/flat/nested/fifo":             special(catalog.ModeFIFO|0o600, 0),
		"/flat/nested.with.a.near.name": testrepo.Dir(),
		"/flat/owned":                   owned,
		"/flat/single":                  linked("one", 2),
		"/flat/single2":                 other,
	}
}

func TestCompile(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(peculiar())
	o := clientOf(t, repo)
	env := map[string]string{"ONE": "1"}
	o.Getenv = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	r := openRepository(t, o)
	d := directoryAt(t, r, "/flat", "")
	c, entries := compile(t, r, d)

	var got []string
	for _, e := range entries {
		what := e.Target
		if e.Size > 0 {
			what = fmt.Sprint(e.Size)
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %o %d %s", e.Path, e.Mode>>12, e.Link, what)))
	}
	want := []string{
		"4 0", "a 10 1 5", "b 4 0", "b/x 10 2 4", "b/y 10 2 4", "c 10 1 5", "chunked 10 0 5000", "empty 10 0", "link 12 0 1/xtwo",
		"nested 4 0", "nested/deep 4 0", "nested/deep/null 2 0", "nested/deep/same 10 0 5", "nested/fifo 1 0", "nested.with.a.near.name 4 0",
		"owned 10 0 5", "single 10 0 3", "single2 10 0 3",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
	for _, e := range entries {
		switch e.Path {
		case "owned":
			if e.UID != 7 || e.GID != 8 || e.MTime != -5 || e.Nsec != 999 || len(e.XAttrs) != 1 || e.XAttrs[0].Name != "security.capability" {
				t.Errorf("%+v", e)
			}
		case "nested/deep/null":
			if e.Major != 1 || e.Minor != 3 {
				t.Errorf("%+v", e)
			}
		}
	}
	if _, err := imagemeta.Encode(&bytes.Buffer{}, entries); err != nil {
		t.Errorf("not canonical: %v", err)
	}
	if _, err := erofs.Write(new(blackHole), entries); err != nil {
		t.Errorf("no image: %v", err)
	}
	contentsOfCompiled(t, r, o.Cache, c, entries)

	// It is known by what it depends on and nothing else.
	requests := repo.Requests("")
	env["THREE"] = "3"
	if again, _ := compile(t, r, d); again.ID != c.ID || repo.Requests("") != requests {
		t.Errorf("again: %s after %s, %d requests", again.ID, c.ID, repo.Requests("")-requests)
	}
	for _, change := range []map[string]string{{"ONE": "2"}, {"ONE": "1", "TWO": ""}} {
		env = change
		if other, err := r.Compile(t.Context(), d); err != nil || other.ID == c.ID {
			t.Errorf("%v: %s as before, %v", change, other.ID, err)
		}
	}
	below := directoryAt(t, r, "/flat", "/b")
	if part, entries := compile(t, r, below); part.ID == c.ID || len(entries) != 3 || entries[1].Path != "x" || entries[1].Link != 1 {
		t.Errorf("below: %s, %+v", part.ID, entries)
	}
	o.Owner = &client.Owner{UID: 1, GID: 2}
	claimed, entries := compile(t, openRepository(t, o), below)
	if part, _ := compile(t, r, below); claimed.ID == part.ID || entries[2].UID != 1 || entries[2].GID != 2 {
		t.Errorf("with another owner: %s, %+v", claimed.ID, entries[2])
	}
}

type blackHole struct{}

func (*blackHole) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// contentsOfCompiled reads all contents by the names that the entries have for
// them, and finds them where a kernel looks for them.
func contentsOfCompiled(t *testing.T, r *client.Repository, k *cache.Cache, c *client.Compiled, entries []imagemeta.Entry) {
	t.Helper()
	s := client.NewContents(k)
	defer s.Close()
	if err := s.UseCompiled(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := s.Covers(r, c.ID, entries); err != nil {
		t.Error(err)
	}
	want := map[string]string{"a": "first", "nested/deep/same": "first", "owned": "owned", "chunked": string(noise(1, 5000))}
	for _, e := range entries {
		if e.Size == 0 {
			continue
		}
		got, err := readContent(t.Context(), s, e.Content)
		if text, ok := want[e.Path]; err != nil || ok && string(got) != text || int64(len(got)) != e.Size {
			t.Errorf("%s: %q, %v", e.Path, got, err)
		}
		delete(want, e.Path)
		if e.Path == "chunked" { // put together in the background
			if err := s.Fetch(t.Context(), e.Content, func(int64) error { return nil }); err != nil {
				t.Error(err)
			}
		}
	}
	if len(want) != 0 {
		t.Errorf("not there: %v", want)
	}
	if absent, err := s.Absent(t.Context()); err != nil || len(absent) != 1 {
		t.Errorf("absent: %v, %v", absent, err)
	}
	// What the tree holds is evicted after what nobody holds.
	id := entries[1].Content
	loose := object.ContentOf([]byte("loose"))
	if err := k.Ensure(t.Context(), cache.Content(loose), 5, func(_ context.Context, w cache.Writer) error { _, err := w.Write([]byte("loose")); return err }); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if !k.Has(cache.Content(loose)) {
			break
		}
		k.Evict(1)
	}
	if !k.Has(cache.Name(id)) || k.Has(cache.Content(loose)) {
		t.Errorf("held content cached: %v, loose content cached: %v", k.Has(cache.Name(id)), k.Has(cache.Content(loose)))
	}
	if trees := s.Trees(id); len(trees) != 1 || trees[0] != c.ID {
		t.Errorf("held by %v", trees)
	}
}

// A list of variables is bounded.
func TestCompileManyVariables(t *testing.T) {
	tree := testrepo.Tree{}
	for i := range 40 {
		tree[fmt.Sprintf("/link%d", i)] = testrepo.Link(fmt.Sprintf("$(%02d%s)x", i, strings.Repeat("n", 2000)))
	}
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(tree)
	r := openRepository(t, clientOf(t, repo))
	if _, err := r.Compile(t.Context(), directoryAt(t, r, "", "")); !errors.Is(err, imagemeta.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// What an image cannot show, and a catalog of which nothing can be shown, is
// refused with the reason; a server that does not answer is another matter.
func TestCompileRefuses(t *testing.T) {
	file := func(change func(e *testrepo.Entry)) testrepo.Entry {
		e := testrepo.Text("text")
		change(&e)
		return e
	}
	for name, tc := range map[string]struct {
		entry  testrepo.Entry
		reason string
	}{
		"external": {file(func(e *testrepo.Entry) { e.Flags = catalog.External }), "outside the repository"},
		"codec": {file(func(e *testrepo.Entry) {
			e.Compression = 5
			e.Keep = true
			e.Size = 4
			e.Hash = object.SHA1.Sum([]byte("x"))
		}), "compression"},
		"whiteout": {special(catalog.ModeChar, 0), "deleted file"},
		"overlay": {file(func(e *testrepo.Entry) {
			e.XAttrs = []catalog.XAttr{{Name: "trusted.overlay.opaque", Value: []byte("y")}}
		}), "overlayfs would obey"},
		"xattr":     {file(func(e *testrepo.Entry) { e.XAttrs = []catalog.XAttr{{Name: "foreign.x"}} }), "xattr"},
		"no target": {testrepo.Link("$(UNSET)"), "target of 0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			repo := testrepo.New(t, testrepo.Options{})
			repo.Publish(testrepo.Tree{"/ok": testrepo.Text("ok"), "/bad": tc.entry})
			r := openRepository(t, clientOf(t, repo))
			_, err := r.Compile(t.Context(), directoryAt(t, r, "", ""))
			if !errors.Is(err, imagemeta.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), tc.reason) {
				t.Errorf("%v, want %q", err, tc.reason)
			}
		})
	}
}

func TestCompileFailures(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(peculiar())
	catalogs := func(t *testing.T, h http.HandlerFunc) error {
		t.Helper()
		r := openRepository(t, clientOf(t, repo))
		d := directoryAt(t, r, "/flat", "")
		repo.Fault("data/", h)
		defer repo.Fault("data/", nil)
		_, err := r.Compile(t.Context(), d)
		return err
	}
	if err := catalogs(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("wrong")) }); !errors.Is(err, imagemeta.ErrUnsupported) || !errors.Is(err, fetch.ErrCorrupt) {
		t.Errorf("a damaged catalog: %v", err)
	}
	if err := catalogs(t, http.NotFound); !errors.Is(err, imagemeta.ErrUnsupported) {
		t.Errorf("a catalog that is missing: %v", err)
	}
	down := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	if err := catalogs(t, down); errors.Is(err, imagemeta.ErrUnsupported) || !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
	// A catalog of another place.
	lying := testrepo.New(t, testrepo.Options{})
	lying.Publish(testrepo.Tree{"/here": testrepo.Nested(), "/here/x": testrepo.Text("x"), "/there": testrepo.Nested()})
	honest := directoryAt(t, openRepository(t, clientOf(t, lying)), "/here", "")
	there := testrepo.Nested()
	there.Foreign = honest.Catalog
	lying.Publish(testrepo.Tree{"/here": testrepo.Nested(), "/here/x": testrepo.Text("x"), "/there": there})
	liar := openRepository(t, clientOf(t, lying))
	if _, err := liar.Compile(t.Context(), directoryAt(t, liar, "", "")); !errors.Is(err, imagemeta.ErrUnsupported) || !errors.Is(err, client.ErrInconsistent) {
		t.Errorf("a catalog that belongs elsewhere: %v", err)
	}
	// Catalogs that say how much there is are not read, others until it is too much.
	r := openRepository(t, clientOf(t, repo))
	for below, most := range map[string]int{"": 10, "/b": 2} {
		if err := r.WalkAtMost(t.Context(), directoryAt(t, r, "/flat", below), most); !errors.Is(err, imagemeta.ErrTooLarge) {
			t.Errorf("%q: %v", below, err)
		}
	}
	for _, below := range []string{"/nowhere", "/nested", "/a"} { // the second is in a catalog of its own
		if err := r.WalkAtMost(t.Context(), directoryAt(t, r, "/flat", below), 5); !errors.Is(err, client.ErrInconsistent) {
			t.Errorf("%s: %v", below, err)
		}
	}
}
