package replica_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/replica"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
)

// As many objects are under way at once as there are workers, and no more.
func TestWorkers(t *testing.T) {
	repo := offered(t)
	files := testrepo.Tree{} // all different: who waits for another's copy is at work, too
	for _, text := range strings.Split("0123456789", "") {
		files["/"+text] = testrepo.Text(text)
	}
	repo.Publish(files)
	const workers = 4 // as replicator makes
	var under atomic.Int64
	var once sync.Once
	all := make(chan struct{})
	repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if _, typ, _ := object.ParsePath(name); typ == object.Bulk {
			n := under.Add(1)
			defer under.Add(-1)
			if n > workers {
				t.Errorf("%d objects at once", n)
			}
			if n == workers {
				once.Do(func() { close(all) })
			}
			select {
			case <-all:
			case <-r.Context().Done(): // the client's patience ends before the test's
				t.Error("the others did not come")
			}
		}
		w.Write(repo.Get(name))
	})
	s := newStore(t)
	snapshot(t, replicator(t, repo.URL, s, trusting(repo)))
	sameObjects(t, repo, s)
}

// durable notes what was put and is not durable yet when a manifest comes.
type durable struct {
	*local.Store
	t       *testing.T
	pending atomic.Int64
}

func (d *durable) Put(ctx context.Context, name string, data []byte) error {
	if store.IsObject(name) {
		d.pending.Add(1)
	}
	return d.Store.Put(ctx, name, data)
}

func (d *durable) Sync(ctx context.Context) error {
	n := d.pending.Load()
	err := d.Store.Sync(ctx)
	d.pending.Add(-n)
	return err
}

func (d *durable) Swap(ctx context.Context, name string, old, next []byte) error {
	if n := d.pending.Load(); n > 0 {
		d.t.Errorf("%s names %d objects that a power cut may take", name, n)
	}
	return d.Store.Swap(ctx, name, old, next)
}

var _ store.Deleter = (*durable)(nil)

func TestDurableBeforeTheManifest(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	d := &durable{Store: newStore(t), t: t}
	snapshot(t, replicator(t, repo.URL, d, trusting(repo)))
	sameObjects(t, repo, d.Store)
}

// What a replica says of itself grows with each run: its reflog has all it ever
// copied, with the time of the first copy, and what others wrote into the status
// stays.
func TestRecords(t *testing.T) {
	repo := offered(t)
	first := repo.Publish(tree())
	s := newStore(t)
	days := []time.Time{time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC)}
	now := days[0]
	r := replicator(t, repo.URL, s, trusting(repo), func(o *replica.Options) { o.Now = func() time.Time { return now } })
	snapshot(t, r)
	if err := s.Put(t.Context(), ".cvmfs_status.json", []byte(`{"last_gc": "never"}`)); err != nil {
		t.Fatal(err)
	}
	now = days[1]
	second := repo.Publish(tree("second"))
	repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
		if got := string(get(t, s, ".cvmfs_is_snapshotting")); !strings.HasSuffix(r.URL.Path, "X") && got != "Thu Mar  5 00:00:00 UTC 2026\n" {
			t.Errorf("while it copies, .cvmfs_is_snapshotting says %q", got)
		}
		w.Write(repo.Get(strings.TrimPrefix(r.URL.Path, "/")))
	})
	snapshot(t, r)
	if got := string(get(t, s, ".cvmfs_status.json")); !strings.Contains(got, `"last_gc": "never"`) || !strings.Contains(got, `"last_snapshot": "Thu Mar  5 `) {
		t.Errorf(".cvmfs_status.json: %s", got)
	}
	file := filepath.Join(t.TempDir(), "reflog")
	if err := os.WriteFile(file, get(t, s, ".cvmfsreflog"), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := reflog.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	list, err := db.List()
	if err != nil {
		t.Fatal(err)
	}
	for h, want := range map[object.Hash]time.Time{first: days[0], second: days[1], repo.Head().Certificate: days[0]} {
		i := slices.IndexFunc(list, func(r reflog.Ref) bool { return r.Hash == h })
		if i < 0 || list[i].Timestamp != want.Unix() {
			t.Errorf("the reflog says of %s: %+v, want %d", h, list, want.Unix())
		}
	}
}

// A repository with alternative paths has them in the replica, too
// (CVMFS-FORMAT 1.3).
func TestAlternativePaths(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	m := repo.Head()
	m.AltPaths = true
	repo.Sign(m)
	s := newStore(t)
	snapshot(t, replicator(t, repo.URL, s, trusting(repo)))
	for h, typ := range map[object.Hash]object.Type{m.RootCatalog: object.Catalog, m.Certificate: object.Certificate} {
		if got := get(t, s, ".cvmfsalt-"+h.String()+string(rune(typ))); got == nil || !bytes.Equal(got, repo.Get(object.Path(h, typ))) {
			t.Errorf("%s has no alternative path, or another content there: %q", h, names(t, s, ".cvmfsalt"))
		}
	}
	if !bytes.Equal(get(t, s, manifest.FileName), repo.Get(manifest.FileName)) {
		t.Error("the manifest is not the source's")
	}
}

// A tag that moves means other paths in catalogs that stay what they are.
func TestOnlyFollowsATag(t *testing.T) {
	const next = "abef"
	repo := offered(t)
	both := site()
	both["/.flat/ab/"+next] = version(treeOne)
	both["/.flat/ab/"+next+"/file"] = testrepo.Text("moved to")
	repo.Publish(both)
	s := newStore(t)
	r := replicator(t, repo.URL, s, trusting(repo), only(t, "images/docker.io/library/nginx@1"))
	snapshot(t, r)
	moved := object.Path(encodedHash(t, "moved to"), object.Bulk)
	if get(t, s, moved) != nil {
		t.Fatal("what the tag will mean is there already: the test proves nothing")
	}
	both["/docker.io/library/nginx:1"] = testrepo.Link("../../.flat/ab/" + next)
	repo.Publish(both)
	snapshot(t, r)
	if get(t, s, moved) == nil {
		t.Error("the tag has moved, and what it means now is not there")
	}
}

// Of the catalogs, too, only those on the way and inside are copied.
func TestOnlyTheCatalogsOnTheWay(t *testing.T) {
	repo := offered(t)
	repo.Publish(site())
	s := newStore(t)
	snapshot(t, replicator(t, repo.URL, s, trusting(repo), only(t, "rootfs/one@1")))
	n := 0
	for _, name := range names(t, s, "data/") {
		if strings.HasSuffix(name, "C") {
			n++
		}
	}
	if n != 5 { // the root's, rootfs/one's, the tree's, and those its two records are in
		t.Errorf("%d catalogs", n)
	}
}
