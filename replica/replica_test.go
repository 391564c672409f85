package replica_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/replica"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
	"github.com/rootstock-cf/rootstock/store/serve"
)

const marker = ".cvmfs_master_replica"

// offered makes a repository that may be replicated.
func offered(t *testing.T) *testrepo.Repo {
	t.Helper()
	r := testrepo.New(t, testrepo.Options{})
	r.Put(marker, nil)
	return r
}

// tree is one with everything that refers to objects.
func tree(more ...string) testrepo.Tree {
	all := testrepo.Tree{
		"/etc/motd": testrepo.Text("welcome"), "/etc/empty": testrepo.Text(""), "/etc/again": testrepo.Text("welcome"),
		"/big":        testrepo.Chunks(bytes.Repeat([]byte("chunk of it "), 1000), 1000),
		"/a":          testrepo.Nested(),
		"/a/b":        testrepo.Nested(),
		"/a/b/deep":   testrepo.Text("deep"),
		"/c":          testrepo.Nested(),
		"/c/file":     testrepo.Text("beside"),
		"/etc/passwd": testrepo.Link("../nowhere"),
	}
	for _, text := range more {
		all["/more/"+text] = testrepo.Text(text)
	}
	return all
}

// fastDir is a directory in memory where there is one: these tests make many
// stores, and what a disk adds is tested with the store.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "rootstock-replica-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newStore(t testing.TB) *local.Store {
	t.Helper()
	s, err := local.Create(filepath.Join(fastDir(t), "replica"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func fetcher(t testing.TB, url string) fetch.Fetcher {
	t.Helper()
	f, err := fetch.New(fetch.Config{Servers: []string{url}, BackoffInit: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func replicator(t testing.TB, url string, to store.Store, change ...func(*replica.Options)) *replica.Replicator {
	t.Helper()
	o := replica.Options{From: fetcher(t, url), To: to, TempDir: t.TempDir(), Workers: 4}
	for _, c := range change {
		c(&o)
	}
	r, err := replica.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func trusting(r *testrepo.Repo) func(*replica.Options) {
	return func(o *replica.Options) { o.Trust = r.Trust() }
}

func snapshot(t testing.TB, r *replica.Replicator) *replica.Result {
	t.Helper()
	res, err := r.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestProgress(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	var p replica.Progress
	r := replicator(t, repo.URL, newStore(t), trusting(repo), func(o *replica.Options) { o.Progress = &p })
	res := snapshot(t, r)
	if res.Objects == 0 || p.Objects.Load() != res.Objects || p.Bytes.Load() != res.Bytes {
		t.Errorf("%d objects, %d bytes: %+v", p.Objects.Load(), p.Bytes.Load(), res)
	}
}

func get(t testing.TB, s store.Getter, name string) []byte {
	t.Helper()
	r, err := s.Get(context.Background(), name)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func names(t testing.TB, s store.Lister, prefix string) (all []string) {
	t.Helper()
	if err := s.List(context.Background(), prefix, func(name string, _ int64) error {
		all = append(all, name)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// sameObjects checks that the store has the source's objects, byte for byte.
func sameObjects(t *testing.T, repo *testrepo.Repo, s *local.Store) {
	t.Helper()
	want := repo.Names("data/")
	slices.Sort(want)
	if got := names(t, s, "data/"); !slices.Equal(got, want) {
		t.Errorf("the replica has %d objects, the source %d:\n%v\n%v", len(got), len(want), got, want)
	}
	for _, name := range append(want, manifest.FileName, manifest.WhitelistName) {
		if !bytes.Equal(get(t, s, name), repo.Get(name)) {
			t.Errorf("%s is not the source's", name)
		}
	}
}

func TestVerbatim(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	repo.Tag("one")
	s := newStore(t)
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	res := snapshot(t, replicator(t, repo.URL, s, trusting(repo), func(o *replica.Options) { o.Now = func() time.Time { return now } }))
	sameObjects(t, repo, s)
	if res.Revision != repo.Head().Revision || res.Catalogs != 4 || int(res.Objects) != len(repo.Names("data/")) || res.Unchanged || res.Bytes == 0 {
		t.Errorf("%+v", res)
	}
	if got := string(get(t, s, ".cvmfs_last_snapshot")); got != "Wed Mar  4 05:06:07 UTC 2026\n" {
		t.Errorf(".cvmfs_last_snapshot: %q", got)
	}
	if got := string(get(t, s, ".cvmfs_status.json")); !strings.Contains(got, `"last_snapshot": "Wed Mar  4 05:06:07 UTC 2026"`) {
		t.Errorf(".cvmfs_status.json: %s", got)
	}
	if get(t, s, ".cvmfs_is_snapshotting") != nil || get(t, s, marker) == nil {
		t.Errorf("root files: %v", names(t, s, ".cvmfs"))
	}
	for name, n := range map[string]int{manifest.FileName: 1, marker: 1} {
		if repo.Hits(name) != n {
			t.Errorf("%s was asked for %d times", name, repo.Hits(name))
		}
	}
	for _, name := range repo.Names("data/") {
		if n := repo.Hits(name); n != 1 && !strings.HasSuffix(name, "X") { // the certificate is needed first
			t.Errorf("%s was fetched %d times", name, n)
		}
	}
	m := repo.Head()
	for _, h := range []object.Hash{m.RootCatalog, m.Certificate, m.History} {
		if !logged(t, s, h) {
			t.Errorf("the reflog does not have %s", h)
		}
	}
}

func logged(t *testing.T, s *local.Store, h object.Hash) bool {
	t.Helper()
	file := filepath.Join(t.TempDir(), "reflog")
	if err := os.WriteFile(file, get(t, s, ".cvmfsreflog"), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := reflog.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ok, err := db.Has(h)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// What the replica has is neither fetched nor looked at again.
func TestOnlyWhatIsNew(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	s := newStore(t)
	r := replicator(t, repo.URL, s, trusting(repo))
	snapshot(t, r)
	before := repo.Requests("data/")
	if res := snapshot(t, r); !res.Unchanged || res.Objects != 0 {
		t.Errorf("%+v", res)
	}
	if n := repo.Requests("data/") - before; n != 1 { // the certificate
		t.Errorf("nothing new cost %d objects", n)
	}
	repo.Publish(tree("new"))
	before = repo.Requests("data/")
	if res := snapshot(t, r); res.Unchanged || res.Objects != 2 || res.Catalogs != 1 {
		t.Errorf("%+v", res)
	}
	if n := repo.Requests("data/") - before; n != 3 { // certificate, root catalog, file
		t.Errorf("one new file cost %d objects", n)
	}
	sameObjects(t, repo, s)
	// A new whitelist alone is news, too.
	repo.Whitelist(time.Now().AddDate(0, 6, 0))
	if res := snapshot(t, r); res.Unchanged || res.Objects != 0 {
		t.Errorf("%+v", res)
	}
	sameObjects(t, repo, s)
}

// Revisions in between are copied for those who still read them, and tags, but
// not the past of a first copy.
func TestPredecessorsAndTags(t *testing.T) {
	repo := offered(t)
	first := repo.Publish(tree("first"))
	repo.Publish(tree("second"))
	repo.Tag("second")
	s := newStore(t)
	r := replicator(t, repo.URL, s, trusting(repo))
	snapshot(t, r)
	if has(t, s, first) {
		t.Error("a first copy has the past")
	}
	between := repo.Publish(tree("third"))
	repo.Publish(tree("fourth"))
	snapshot(t, r)
	if !has(t, s, between) || !logged(t, s, between) {
		t.Error("the revision in between is missing, or not in the reflog")
	}
	fresh := newStore(t)
	tagged := repo.Head()
	repo.Tag("fourth", "again")
	repo.Publish(tree("fifth"))
	snapshot(t, replicator(t, repo.URL, fresh, trusting(repo)))
	if !has(t, fresh, tagged.RootCatalog) || !logged(t, fresh, tagged.RootCatalog) || has(t, fresh, between) {
		t.Error("a tag's root is missing, or what has no tag is there")
	}
}

func has(t testing.TB, s store.Store, root object.Hash) bool {
	t.Helper()
	_, ok, err := s.Has(context.Background(), object.Path(root, object.Catalog))
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// Of a repository that collects garbage, what is gone is left out; of another,
// it is damage.
func TestCollected(t *testing.T) {
	for _, collects := range []bool{true, false} {
		repo := offered(t)
		gone := repo.Publish(tree("gone"))
		repo.Tag("gone")
		repo.Publish(tree())
		m := repo.Head()
		m.GarbageCollectable = collects
		repo.Sign(m)
		repo.Remove(object.Path(gone, object.Catalog))
		res, err := replicator(t, repo.URL, newStore(t), trusting(repo)).Snapshot(t.Context())
		if collects && (err != nil || !slices.Equal(res.Skipped, []string{"tag gone"})) {
			t.Errorf("collecting: %+v, %v", res, err)
		}
		if !collects && (!errors.Is(err, fetch.ErrNotFound) || !strings.Contains(err.Error(), "tag gone")) {
			t.Errorf("not collecting: %v", err)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, repo *testrepo.Repo, s *local.Store, o *replica.Options)
		want    error
	}{
		"not offered": {func(_ *testing.T, r *testrepo.Repo, _ *local.Store, _ *replica.Options) { r.Remove(marker) }, replica.ErrNotReplicable},
		"foreign key": {func(t *testing.T, _ *testrepo.Repo, _ *local.Store, o *replica.Options) {
			o.Trust = testrepo.New(t, testrepo.Options{Name: "other.example.org"}).Trust()
		}, manifest.ErrSignature},
		"expired": {func(_ *testing.T, r *testrepo.Repo, _ *local.Store, _ *replica.Options) {
			r.Whitelist(time.Now().Add(-24 * time.Hour))
		}, manifest.ErrExpired},
		"expired, no key": {func(_ *testing.T, r *testrepo.Repo, _ *local.Store, o *replica.Options) {
			r.Whitelist(time.Now().Add(-24 * time.Hour))
			o.Trust = manifest.Trust{}
		}, manifest.ErrExpired},
		"foreign whitelist, no key": {func(t *testing.T, r *testrepo.Repo, _ *local.Store, o *replica.Options) {
			r.Put(manifest.WhitelistName, testrepo.New(t, testrepo.Options{Name: "other.example.org"}).Get(manifest.WhitelistName))
			o.Trust = manifest.Trust{}
		}, manifest.ErrUntrusted},
		"forged manifest, no key": {func(_ *testing.T, r *testrepo.Repo, _ *local.Store, o *replica.Options) {
			raw := bytes.Clone(r.Get(manifest.FileName))
			raw[len(raw)-1] ^= 1
			r.Put(manifest.FileName, raw)
			o.Trust = manifest.Trust{}
		}, manifest.ErrSignature},
		"another name": {func(_ *testing.T, _ *testrepo.Repo, _ *local.Store, o *replica.Options) { o.Name = "other.example.org" }, manifest.ErrName},
		"another name, no key": {func(_ *testing.T, _ *testrepo.Repo, _ *local.Store, o *replica.Options) {
			o.Name, o.Trust = "other.example.org", manifest.Trust{}
		}, manifest.ErrName},
		"older": {func(t *testing.T, r *testrepo.Repo, s *local.Store, o *replica.Options) {
			old := r.Head()
			r.Publish(tree("newer"))
			snapshot(t, replicator(t, r.URL, s, trusting(r)))
			r.Sign(old)
		}, manifest.ErrRollback},
		"another repository": {func(t *testing.T, _ *testrepo.Repo, s *local.Store, _ *replica.Options) {
			other := testrepo.New(t, testrepo.Options{Name: "other.example.org"})
			other.Put(marker, nil)
			other.Publish(tree())
			snapshot(t, replicator(t, other.URL, s, trusting(other)))
		}, replica.ErrOther},
		"locked": {func(t *testing.T, _ *testrepo.Repo, s *local.Store, _ *replica.Options) {
			unlock, err := s.Lock(t.Context(), "anna")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unlock() })
		}, store.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			repo := offered(t)
			repo.Publish(tree())
			s := newStore(t)
			o := func(o *replica.Options) {
				trusting(repo)(o)
				tc.prepare(t, repo, s, o)
			}
			r := replicator(t, repo.URL, s, o)
			before := get(t, s, manifest.FileName)
			if _, err := r.Snapshot(t.Context()); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if !bytes.Equal(get(t, s, manifest.FileName), before) {
				t.Error("the replica shows something else")
			}
		})
	}
}

// Without a key everything is still checked against what the server says.
func TestWithoutKey(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	s := newStore(t)
	snapshot(t, replicator(t, repo.URL, s))
	sameObjects(t, repo, s)
}

func TestReplicaOfReplica(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	repo.Tag("one")
	first := newStore(t)
	snapshot(t, replicator(t, repo.URL, first, trusting(repo)))
	server := httptest.NewServer(serve.Handler(map[string]store.Getter{repo.Name: first}, slog.New(slog.DiscardHandler)))
	t.Cleanup(server.Close)
	second := newStore(t)
	snapshot(t, replicator(t, server.URL+"/cvmfs/"+repo.Name, second, trusting(repo)))
	sameObjects(t, repo, second)
}

// Repositories that stock CernVM-FS wrote are copied whole.
func TestGolden(t *testing.T) {
	dir := os.Getenv("ROOTSTOCK_GOLDEN")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "golden")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED, no stock repository is replicated: set ROOTSTOCK_GOLDEN to the golden repositories (%v)", err)
	}
	for _, set := range []string{"basic", "nested", "chunked", "shake128", "uncompressed", "tags", "tagsgc"} {
		files := os.DirFS(filepath.Join(dir, set, "repo"))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/"+marker {
				return // the sample lacks it
			}
			http.ServeFileFS(w, r, files, strings.TrimPrefix(r.URL.Path, "/"))
		}))
		t.Cleanup(server.Close)
		pubs, err := filepath.Glob(filepath.Join(dir, set, "keys", "*.pub"))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := manifest.LoadPublicKeys(pubs...)
		if err != nil {
			t.Fatal(err)
		}
		s := newStore(t)
		res := snapshot(t, replicator(t, server.URL, s, func(o *replica.Options) { o.Trust.Keys = keys }))
		copied := 0
		for _, name := range names(t, s, "data/") {
			want, err := fs.ReadFile(files, name)
			if err != nil || !bytes.Equal(want, get(t, s, name)) {
				t.Errorf("%s: %s is not the source's: %v", set, name, err)
			}
			copied++
		}
		if copied < 5 || int64(copied) != res.Objects || len(res.Skipped) > 0 {
			t.Errorf("%s: %d objects, %+v", set, copied, res)
		}
	}
}

// While garbage is collected, and after that was cut off, a catalog may be there
// without what it refers to: none is trusted then.
func TestCollectionCutOff(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	s := newStore(t)
	snapshot(t, replicator(t, repo.URL, s))
	for _, name := range names(t, s, "data/") {
		if !strings.HasSuffix(name, "C") {
			if err := s.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Put(t.Context(), ".cvmfs_collecting", nil); err != nil {
		t.Fatal(err)
	}
	repo.Publish(tree("new"))
	snapshot(t, replicator(t, repo.URL, s))
	sameObjects(t, repo, s)
}
