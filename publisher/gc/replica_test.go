package gc_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/check"
	"github.com/rootstock-cf/rootstock/publisher/gc"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/replica"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
	"github.com/rootstock-cf/rootstock/store/serve"
)

// copied is a replica of a site.
type copied struct {
	t    *testing.T
	site *testsite.Site
	dir  string
	to   *local.Store
	url  string
	only []reference.Reference
}

func newCopy(t *testing.T, s *testsite.Site) *copied {
	t.Helper()
	if err := s.Store.Put(t.Context(), ".cvmfs_master_replica", nil); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(serve.Handler(map[string]store.Getter{testsite.Name: s.Store}, nil))
	t.Cleanup(web.Close)
	dir := filepath.Join(t.TempDir(), "replica")
	if fast, err := os.MkdirTemp("/dev/shm", "rootstock-gc-"); err == nil { // as in package replica's tests
		t.Cleanup(func() { os.RemoveAll(fast) })
		dir = filepath.Join(fast, "replica")
	}
	to, err := local.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { to.Close() })
	return &copied{t: t, site: s, dir: dir, to: to, url: web.URL}
}

func (c *copied) trust() manifest.Trust {
	return manifest.Trust{Keys: []*rsa.PublicKey{&c.site.Master.PublicKey}}
}

func (c *copied) replicate() *replica.Result {
	c.t.Helper()
	from, err := fetch.New(fetch.Config{Servers: []string{c.url}})
	if err != nil {
		c.t.Fatal(err)
	}
	defer from.Close()
	r, err := replica.New(replica.Options{From: from, To: c.to, Trust: c.trust(), Only: c.only, TempDir: c.t.TempDir(), Now: c.site.Now})
	if err != nil {
		c.t.Fatal(err)
	}
	res, err := r.Snapshot(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return res
}

// options collect all they can, at a time when nothing is young.
func (c *copied) options() gc.Options {
	later := func() time.Time { return time.Now().Add(2 * time.Hour) }
	return gc.Options{Store: c.to, Trust: c.trust(), Leases: gc.NewLeases(later()), Now: later, TempDir: c.t.TempDir()}
}

func (c *copied) whole() {
	c.t.Helper()
	_, err := check.Run(c.t.Context(), check.Options{
		Store: c.to, Masters: c.trust().Keys, Tags: true, Now: c.site.Now, TempDir: c.t.TempDir(),
		Found: func(f check.Finding) {
			if f.Kind != check.Reflog { // which is the replica's own
				c.t.Errorf("replica: %v", f)
			}
		},
	})
	if err != nil {
		c.t.Error(err)
	}
}

func (c *copied) has(name string) bool {
	c.t.Helper()
	_, there, err := c.to.Has(c.t.Context(), name)
	if err != nil {
		c.t.Fatal(err)
	}
	return there
}

func (c *copied) root(name string) string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

var one = []testsite.Entry{testsite.File("only-in-one", "one"), testsite.File("shared", "both")}

// outdated is a replica that has a tree which its source has no more.
func outdated(t *testing.T) (c *copied, gone string) {
	t.Helper()
	c, _, gone = outdatedSince(t)
	return c, gone
}

// outdatedSince also returns the manifest with which the source had the tree.
func outdatedSince(t *testing.T) (c *copied, had manifest.Manifest, gone string) {
	t.Helper()
	s := testsite.New(t, settings)
	c = newCopy(t, s)
	r := s.Rootfs("demo", "1", one...)
	gone = s.Object(r.Path, r.Path+"/only-in-one")
	had = s.Head()
	c.replicate()
	forget(t, s)
	s.Sleep(time.Hour)
	s.Rootfs("demo", "2", testsite.File("shared", "both"))
	untag(t, s)
	c.replicate()
	if !c.has(gone) {
		t.Fatal("there is nothing to collect")
	}
	return c, had, gone
}

// A replica is collected without the release key, and stays a replica: its
// manifest is the source's, and it follows.
func TestReplica(t *testing.T) {
	c, gone := outdated(t)
	before := c.root(".cvmfspublished")
	o := c.options()
	o.DryRun = true
	if dry := collect(t, o); dry.Deleted == 0 || !c.has(gone) || c.has(".cvmfs_collecting") {
		t.Errorf("a dry run: %+v", dry)
	}
	r := collect(t, c.options())
	if r.Deleted == 0 || c.has(gone) || c.has(".cvmfs_collecting") {
		t.Errorf("%+v, still there: %v", r, c.has(gone))
	}
	if c.root(".cvmfspublished") != before {
		t.Error("the manifest is not the source's any more")
	}
	c.whole()
	if !c.replicate().Unchanged {
		t.Error("the replica is not current after it was collected")
	}
	if again := collect(t, c.options()); again.Deleted != 0 || again.RevisionsDropped != 0 {
		t.Errorf("the second run: %+v", again)
	}
	c.site.Rootfs("demo", "1", one...)
	c.replicate()
	if !c.has(gone) {
		t.Errorf("%s was not copied again", gone)
	}
	c.whole()
}

// dying is cut off when all but the catalogs is deleted.
type dying struct{ *local.Store }

var errDied = errors.New("died")

func (d dying) Delete(ctx context.Context, name string) error {
	switch {
	case !store.IsObject(name):
		return errDied
	case strings.HasSuffix(name, "C"):
		return nil
	}
	return d.Store.Delete(ctx, name)
}

// A catalog that was left after its objects went is not taken for complete.
func TestReplicaCutOff(t *testing.T) {
	c, had, gone := outdatedSince(t)
	o := c.options()
	o.Store = dying{c.to}
	if _, err := gc.Collect(t.Context(), o); !errors.Is(err, errDied) || c.has(gone) || !c.has(".cvmfs_collecting") {
		t.Fatalf("%v, still there: %v, distrusted: %v", err, c.has(gone), c.has(".cvmfs_collecting"))
	}
	// The source goes back to catalogs that are still there, to the last byte: a
	// tree that is published anew would get others.
	if root := object.Path(had.RootCatalog, object.Catalog); !c.has(root) {
		t.Fatalf("%s is not there: the test proves nothing", root)
	}
	c.site.Sign(func(m *manifest.Manifest) {
		m.RootCatalog, m.CatalogSize = had.RootCatalog, had.CatalogSize
		m.Revision++
	})
	c.replicate()
	if !c.has(gone) {
		t.Errorf("%s is missing, and its catalog was taken for complete", gone)
	}
	// Manifest, catalogs and tags are to say the same again.
	c.site.Edit("", fmt.Sprintf("UPDATE properties SET value = '%d' WHERE key = 'revision'", c.site.Head().Revision))
	c.site.Rootfs("demo", "3", one...)
	untag(t, c.site)
	c.replicate()
	c.whole()
	// The next run ends what was begun.
	collect(t, c.options())
	if c.has(".cvmfs_collecting") {
		t.Error("the replica is still distrusted")
	}
	c.whole()
}

// What is young stays, but no catalog whose objects are not.
func TestReplicaYoung(t *testing.T) {
	c, gone := outdated(t)
	o := c.options()
	o.Grace = 90 * time.Minute // at half an hour from now nothing began
	late := time.Now().Add(time.Hour)
	if err := c.to.List(t.Context(), "data/", func(name string, _ int64) error {
		if name == gone {
			return nil
		}
		return os.Chtimes(filepath.Join(c.dir, name), late, late)
	}); err != nil {
		t.Fatal(err)
	}
	if r := collect(t, o); r.Young == 0 || c.has(gone) {
		t.Fatalf("%+v, still there: %v", r, c.has(gone))
	}
	// What the next run finds are no catalogs.
	var log bytes.Buffer
	o.Grace, o.DeletionLog = 0, &log
	if r := collect(t, o); r.Deleted == 0 || strings.Contains(log.String(), "C\n") {
		t.Errorf("%+v, deleted after what they refer to:\n%s", r, log.String())
	}
	c.site.Rootfs("demo", "1", one...)
	c.replicate()
	c.whole()
}

func TestReplicaRefusals(t *testing.T) {
	c, gone := outdated(t)
	for what, x := range map[string]struct {
		change func(o *gc.Options)
		want   string
	}{
		"published here": {func(o *gc.Options) { o.Store = c.site.Store }, "this is no replica"},
		"no key":         {func(o *gc.Options) { o.Trust.Keys = nil }, "signature"},
		"of some trees": {func(o *gc.Options) {
			part := newCopy(t, c.site)
			part.only = []reference.Reference{{Kind: "rootfs", Name: "demo"}}
			part.replicate()
			o.Store = part.to
		}, "of some trees"},
		"published to meanwhile": {func(o *gc.Options) {
			s := c.site.Clone(t)
			if err := s.Store.Put(t.Context(), ".cvmfs_last_snapshot", []byte("then")); err != nil {
				t.Fatal(err)
			}
			o.Store = s.Store
		}, "it is published to"},
	} {
		t.Run(what, func(t *testing.T) {
			o := c.options()
			x.change(&o)
			if _, err := gc.Collect(t.Context(), o); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, want %s", err, x.want)
			}
		})
	}
	if !c.has(gone) || c.has(".cvmfs_collecting") {
		t.Error("who was refused has deleted something")
	}
}
