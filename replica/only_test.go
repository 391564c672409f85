package replica_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/replica"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/serve"
)

const (
	treeOne, treeTwo, treeImage = "1111", "2222", "3333"
	config                      = "abcd"
)

// version is a directory with a catalog and a tree id.
func version(id string) testrepo.Entry {
	e := testrepo.Nested()
	e.XAttrs = []catalog.XAttr{{Name: "user.rootstock.tree", Value: []byte(id)}}
	return e
}

// site is a repository laid out as ours are (docs/design/repository.md).
func site() testrepo.Tree {
	tree := testrepo.Tree{
		"/readme":                       testrepo.Text("readme"),
		"/rootfs/one":                   testrepo.Nested(),
		"/rootfs/one/1":                 version(treeOne),
		"/rootfs/one/1/file":            testrepo.Text("one 1"),
		"/rootfs/one/2":                 version(treeTwo),
		"/rootfs/one/2/file":            testrepo.Text("one 2"),
		"/rootfs/other":                 testrepo.Nested(),
		"/rootfs/other/1":               version(treeTwo),
		"/rootfs/other/1/file":          testrepo.Text("other 1"),
		"/.flat/ab":                     testrepo.Nested(),
		"/.flat/ab/" + config:           version(treeImage),
		"/.flat/ab/" + config + "/file": testrepo.Text("image"),
		"/docker.io":                    testrepo.Nested(),
		"/docker.io/library/nginx:1":    testrepo.Link("../../.flat/ab/" + config),
		"/docker.io/library/evil:1":     testrepo.Link("../../rootfs/other/1"),
		"/.rootstock/images/ab":         testrepo.Nested(),
		"/.rootstock/images/ab/" + config + "/image.json": testrepo.Text("image.json"),
	}
	for _, id := range []string{treeOne, treeTwo, treeImage} {
		tree["/.rootstock/trees/"+id[:2]] = testrepo.Nested()
		tree["/.rootstock/trees/"+id[:2]+"/"+id+"/listing"] = testrepo.Text("listing " + id)
		tree["/.rootstock/notes/"+id[:2]] = testrepo.Nested()
		tree["/.rootstock/notes/"+id[:2]+"/"+id+"/packages.json"] = testrepo.Text("packages " + id)
	}
	return tree
}

func only(t *testing.T, texts ...string) func(*replica.Options) {
	t.Helper()
	return func(o *replica.Options) {
		for _, text := range texts {
			ref, err := reference.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			o.Only = append(o.Only, ref)
		}
	}
}

// texts is which of the site's files a store has the content of.
func texts(t *testing.T, s store.Getter) (all []string) {
	t.Helper()
	for _, e := range site() {
		if !e.IsRegular() {
			continue
		}
		if get(t, s, object.Path(encodedHash(t, string(e.Data)), object.Bulk)) != nil {
			all = append(all, string(e.Data))
		}
	}
	slices.Sort(all)
	return all
}

// encodedHash is the name of the object that has a text.
func encodedHash(t *testing.T, text string) object.Hash {
	t.Helper()
	stored, err := codec.Encode(object.Zlib, nil, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return object.SHAKE128.Sum(stored)
}

func TestOnly(t *testing.T) {
	repo := offered(t)
	repo.Publish(site())
	for _, tc := range []struct {
		only, want []string
	}{
		{[]string{"rootfs/one"}, []string{"listing 1111", "listing 2222", "one 1", "one 2", "packages 1111", "packages 2222"}},
		{[]string{"rootfs/one@1"}, []string{"listing 1111", "one 1", "packages 1111"}},
		{[]string{"rootfs/other@1"}, []string{"listing 2222", "other 1", "packages 2222"}},
		{[]string{"images/docker.io/library/nginx"}, []string{"image", "image.json", "listing 3333", "packages 3333"}},
		{[]string{"images/docker.io/library/nginx@1", "rootfs/one@1"}, []string{"image", "image.json", "listing 1111", "listing 3333", "one 1", "packages 1111", "packages 3333"}},
	} {
		s := newStore(t)
		snapshot(t, replicator(t, repo.URL, s, trusting(repo), only(t, tc.only...)))
		if got := texts(t, s); !slices.Equal(got, tc.want) {
			t.Errorf("%v: %v, want %v", tc.only, got, tc.want)
		}
		if !bytes.Equal(get(t, s, ".cvmfspublished"), repo.Get(".cvmfspublished")) || !has(t, s, repo.Head().RootCatalog) {
			t.Errorf("%v: it cannot be read", tc.only)
		}
	}
	for _, bad := range []string{"rootfs/none", "rootfs/one@3", "images/docker.io/library/none", "images/docker.io/library/evil"} {
		_, err := replicator(t, repo.URL, newStore(t), trusting(repo), only(t, bad)).Snapshot(t.Context())
		if err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	ref, err := reference.Parse("rootfs/one:stable")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replica.New(replica.Options{Only: []reference.Reference{ref}}); err == nil {
		t.Error("a channel can be chosen, though it moves")
	}
}

// A part is not taken for the whole: not by a later run that wants more, and
// not by another replica.
func TestPartBecomesWhole(t *testing.T) {
	repo := offered(t)
	repo.Publish(site())
	s := newStore(t)
	snapshot(t, replicator(t, repo.URL, s, trusting(repo), only(t, "rootfs/one@1")))
	server := httptest.NewServer(serve.Handler(map[string]store.Getter{repo.Name: s}, slog.New(slog.DiscardHandler)))
	t.Cleanup(server.Close)
	if _, err := replicator(t, server.URL, newStore(t), trusting(repo)).Snapshot(t.Context()); !errors.Is(err, replica.ErrNotReplicable) {
		t.Errorf("a replica of a part: %v", err)
	}
	// The same again, with a new version that is not wanted.
	next := site()
	next["/rootfs/one/3"] = version(treeTwo)
	next["/rootfs/one/3/file"] = testrepo.Text("one 3")
	repo.Publish(next)
	if res := snapshot(t, replicator(t, repo.URL, s, trusting(repo), only(t, "rootfs/one@1"))); res.Objects > 3 {
		t.Errorf("the same part again: %+v", res)
	}
	snapshot(t, replicator(t, repo.URL, s, trusting(repo), only(t, "rootfs/one")))
	if got := texts(t, s); !slices.Contains(got, "one 2") || slices.Contains(got, "other 1") {
		t.Errorf("more of it: %v", got)
	}
	snapshot(t, replicator(t, repo.URL, s, trusting(repo)))
	whole := newStore(t)
	snapshot(t, replicator(t, server.URL, whole, trusting(repo)))
	mustBeClosed(t, s)
	mustBeClosed(t, whole)
	if got := texts(t, whole); !slices.Contains(got, "readme") || !slices.Contains(got, "other 1") {
		t.Errorf("the whole: %v", got)
	}
	// And back to a part.
	snapshot(t, replicator(t, repo.URL, s, trusting(repo), only(t, "rootfs/one")))
	if _, err := replicator(t, server.URL, newStore(t), trusting(repo)).Snapshot(t.Context()); !errors.Is(err, replica.ErrNotReplicable) {
		t.Errorf("a replica of what became a part: %v", err)
	}
}
