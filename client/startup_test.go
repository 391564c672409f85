package client_test

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
)

// packed is a repository with a tree that has the contents given, and pack as
// its startup pack.
func packed(t *testing.T, contents []string, pack []byte) (*testrepo.Repo, imagemeta.TreeID) {
	t.Helper()
	repo := testrepo.New(t, testrepo.Options{})
	id := imagemeta.TreeID{5}
	var rows []imagemeta.Object
	tree := testrepo.Tree{}
	for _, c := range contents {
		rows = append(rows, imagemeta.Object{ID: object.ContentOf([]byte(c)), Stored: imagemeta.Stored{
			Size: int64(len(c)), Compression: object.Zlib, Hash: object.SHAKE128.Sum(mustEncode(t, []byte(c))),
		}})
		tree["/"+c] = testrepo.Text(c)
	}
	slices.SortFunc(rows, func(a, b imagemeta.Object) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	var objects bytes.Buffer
	if err := imagemeta.EncodeObjects(&objects, rows); err != nil {
		t.Fatal(err)
	}
	tree["/.rootstock/trees/"+id.CachePath()[:2]+"/"+id.String()+"/objects"] = testrepo.Bytes(objects.Bytes())
	if pack != nil {
		tree["/.rootstock/notes/"+id.CachePath()[:2]+"/"+id.String()+"/startup.pack"] = testrepo.Bytes(pack)
	}
	repo.Publish(tree)
	return repo, id
}

// packOf makes a pack; those that begin with a star are only named.
func packOf(t *testing.T, contents ...string) []byte {
	t.Helper()
	var rows []profile.Packed
	for _, c := range contents {
		name, only := strings.CutPrefix(c, "*")
		row := profile.Packed{ID: object.ContentOf([]byte(name))}
		if !only {
			row.Data = []byte(name)
		}
		rows = append(rows, row)
	}
	b, err := profile.AppendPack(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func startup(t *testing.T, contents []string, pack []byte) (c *cache.Cache, s *client.Contents, r *client.Repository, id imagemeta.TreeID, named []object.ContentID, err error) {
	t.Helper()
	repo, id := packed(t, contents, pack)
	o := clientOf(t, repo)
	r, err = client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	s = contentsOf(t, o.Cache, r, id)
	err = s.Startup(t.Context(), r, id, func() error { return nil }, func(ids []object.ContentID) { named = slices.Clone(ids) })
	return o.Cache, s, r, id, named, err
}

func TestStartupPack(t *testing.T) {
	// "foreign" is signed and whole, but nothing that the tree consists of.
	pack := packOf(t, "two", "*three", "*elsewhere", "foreign", "one")
	c, s, r, id, named, err := startup(t, []string{"one", "two", "three"}, pack)
	if err != nil {
		t.Fatal(err)
	}
	if want := []object.ContentID{object.ContentOf([]byte("three"))}; !slices.Equal(named, want) {
		t.Errorf("named %v", named)
	}
	for text, want := range map[string]bool{"one": true, "two": true, "three": false, "foreign": false, string(pack): false} {
		if got := c.Has(cache.Content(object.ContentOf([]byte(text)))); got != want {
			t.Errorf("%.10q is cached: %v", text, got)
		}
	}
	three := object.ContentOf([]byte("three"))
	lacking, next := s.Lacking(r, id, 0, 10)
	if next != -1 || !slices.Equal(lacking, []object.ContentID{three}) {
		t.Errorf("lacking %v, %d", lacking, next)
	}
	if absent, err := s.Absent(t.Context()); err != nil || absent[id] != 5 {
		t.Errorf("absent %v, %v", absent, err)
	}
	stop := errors.New("stop")
	if err := s.Fetch(t.Context(), three, func(int64) error { return stop }); !errors.Is(err, stop) || c.Has(cache.Content(three)) {
		t.Errorf("fetched without leave: %v", err)
	}
	if err := s.Fetch(t.Context(), three, func(n int64) error {
		if n != 5 {
			t.Errorf("%d bytes", n)
		}
		return nil
	}); err != nil || !c.Has(cache.Content(three)) {
		t.Error(err)
	}
	if lacking, _ = s.Lacking(r, id, 0, 10); len(lacking) != 0 {
		t.Errorf("still lacking %v", lacking)
	}
	if err := s.Fetch(t.Context(), object.ContentOf([]byte("foreign")), func(int64) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestStartupPackThatIsNone(t *testing.T) {
	_, _, _, _, _, err := startup(t, []string{"one"}, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tree without a pack: %v", err)
	}
	repo, id := packed(t, []string{"one"}, packOf(t, "one"))
	o := clientOf(t, repo)
	r, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	s, unused := contentsOf(t, o.Cache, r, id), errors.New("not in use")
	if err := s.Startup(t.Context(), r, id, func() error { return unused }, func([]object.ContentID) {}); !errors.Is(err, unused) {
		t.Errorf("a tree that did not come into use: %v", err)
	}
	if o.Cache.Has(cache.Content(object.ContentOf([]byte("one")))) {
		t.Error("a content of a tree that is not in use was stored")
	}
	pack := packOf(t, "one")
	pack[len(pack)-1] ^= 1
	c, _, _, _, _, err := startup(t, []string{"one"}, pack)
	if !errors.Is(err, profile.ErrInvalid) || c.Has(cache.Content(object.ContentOf([]byte("one")))) {
		t.Errorf("a content that is not its name: %v", err)
	}
}
