package replica_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/replica"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
)

var errDied = errors.New("died")

// mortal is a store whose holder dies at one of its writes.
type mortal struct {
	*local.Store
	left atomic.Int64 // writes until then
}

func (m *mortal) Put(ctx context.Context, name string, data []byte) error {
	if m.left.Add(-1) < 0 {
		return errDied
	}
	return m.Store.Put(ctx, name, data)
}

func (m *mortal) Draft(ctx context.Context, name string) (store.Draft, error) {
	d, err := m.Store.Draft(ctx, name)
	return mortalDraft{d, m}, err
}

type mortalDraft struct {
	store.Draft
	m *mortal
}

func (d mortalDraft) Commit(ctx context.Context) (int64, error) {
	if d.m.left.Add(-1) < 0 {
		return 0, errDied
	}
	return d.Draft.Commit(ctx)
}

func (m *mortal) Swap(ctx context.Context, name string, old, next []byte) error {
	if m.left.Add(-1) < 0 {
		return errDied
	}
	return m.Store.Swap(ctx, name, old, next)
}

func (m *mortal) Delete(ctx context.Context, name string) error {
	if m.left.Load() < 0 {
		return errDied
	}
	return m.Store.Delete(ctx, name)
}

var _ store.Deleter = (*mortal)(nil)

// Wherever a run dies, the replica shows a revision that it has all of, and a
// catalog that is there means that all below it is. The next run goes on.
func TestDiesAnywhere(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	repo.Tag("one")
	old := newStore(t)
	snapshot(t, replicator(t, repo.URL, old, trusting(repo)))
	first := repo.Get(manifest.FileName)
	repo.Publish(tree("x", "y"))
	for died := 0; ; died += 1 + died/6 {
		for name, fresh := range map[string]bool{"first copy": true, "next revision": false} {
			s := newStore(t)
			if !fresh {
				for _, n := range names(t, old, "") {
					if err := s.Put(t.Context(), n, get(t, old, n)); err != nil {
						t.Fatal(err)
					}
				}
			}
			m := &mortal{Store: s}
			m.left.Store(int64(died))
			_, err := replicator(t, repo.URL, m, trusting(repo)).Snapshot(t.Context())
			if err != nil && !errors.Is(err, errDied) {
				t.Fatalf("%s, %d writes: %v", name, died, err)
			}
			switch now := get(t, s, manifest.FileName); {
			case now == nil && fresh, bytes.Equal(now, first) && !fresh:
			case bytes.Equal(now, repo.Get(manifest.FileName)):
				mustBeWhole(t, s, repo.Head().RootCatalog)
			default:
				t.Fatalf("%s, %d writes: the replica shows %q", name, died, now)
			}
			mustBeClosed(t, s)
			if err == nil && fresh {
				return
			}
			before := repo.Requests("data/")
			have := len(names(t, s, "data/"))
			if _, err := replicator(t, repo.URL, s, trusting(repo)).Snapshot(t.Context()); err != nil {
				t.Fatalf("%s, after %d writes: %v", name, died, err)
			}
			if all := len(repo.Names("data/")); repo.Requests("data/")-before > all-have+6 { // certificate, and catalogs that were not stored
				t.Errorf("%s: %d of %d objects were there, %d were fetched", name, have, all, repo.Requests("data/")-before)
			}
			if fresh {
				continue
			}
			sameObjects(t, repo, s)
		}
	}
}

func mustBeWhole(t *testing.T, s *local.Store, root object.Hash) {
	t.Helper()
	if !has(t, s, root) {
		t.Errorf("the root catalog %s is missing", root)
	}
}

// mustBeClosed checks that all that catalogs in the store refer to is there.
func mustBeClosed(t *testing.T, s *local.Store) {
	t.Helper()
	for _, name := range names(t, s, "data/") {
		h, typ, ok := object.ParsePath(name)
		if !ok || typ != object.Catalog {
			continue
		}
		file := filepath.Join(t.TempDir(), "catalog")
		var plain bytes.Buffer
		if _, err := codec.Decode(&plain, bytes.NewReader(get(t, s, name)), codec.Expect{Hash: h, Size: -1, Limit: 1 << 30}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, plain.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := catalog.OpenReader(file)
		if err != nil {
			t.Fatal(err)
		}
		must := func(h object.Hash, typ object.Type) {
			if h.IsZero() {
				return
			}
			if _, ok, err := s.Has(t.Context(), object.Path(h, typ)); !ok || err != nil {
				t.Errorf("%s is stored, %s that it refers to is not", name, object.Path(h, typ))
			}
		}
		if err := c.Scan(t.Context(), func(row catalog.Row) error {
			must(row.Hash, object.Bulk)
			for _, chunk := range row.Chunks {
				must(chunk.Hash, object.Partial)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		nested, err := c.Nested()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nested {
			must(n.Hash, object.Catalog)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A source with faults: what is wrong is named, never stored, and copied once it
// is right.
func TestFaults(t *testing.T) {
	deep := func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("something else")) }
	for name, tc := range map[string]struct {
		fault http.HandlerFunc
		want  error
	}{
		"corrupt":  {deep, fetch.ErrCorrupt},
		"missing":  {http.NotFound, fetch.ErrNotFound},
		"failing":  {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", 500) }, fetch.ErrUnavailable},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, fetch.ErrUnavailable},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, fetch.ErrCorrupt},
	} {
		for what, victim := range map[string]string{"object": ".", "catalog": "C", "chunk": "P"} {
			t.Run(name+" "+what, func(t *testing.T) {
				repo := offered(t)
				repo.Publish(tree())
				path := ""
				for _, n := range repo.Names("data/") {
					_, typ, _ := object.ParsePath(n)
					if typ == object.Type(victim[0]) || victim == "." && typ == object.Bulk {
						path = n
					}
				}
				repo.Fault(path, tc.fault)
				s := newStore(t)
				r := replicator(t, repo.URL, s, trusting(repo))
				_, err := r.Snapshot(t.Context())
				if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("%v, want %v that names %s", err, tc.want, path)
				}
				if get(t, s, path) != nil || get(t, s, manifest.FileName) != nil || get(t, s, ".cvmfs_is_snapshotting") != nil {
					t.Error("something is there that should not be")
				}
				mustBeClosed(t, s)
				repo.Fault(path, nil)
				snapshot(t, r)
				sameObjects(t, repo, s)
			})
		}
	}
}

// whole hides that a store takes objects as they come, as a bucket does not.
type whole struct{ store.Store }

// What a proxy keeps damaged is asked for past it, and nothing of the damage
// stays, be it longer or shorter than the object.
func TestDamagedOnTheWay(t *testing.T) {
	for name, damage := range map[string]string{"longer": strings.Repeat("damage", 40000), "shorter": "x", "none": ""} {
		for how, to := range map[string]func(*local.Store) store.Store{
			"as it comes": func(s *local.Store) store.Store { return s },
			"whole":       func(s *local.Store) store.Store { return whole{s} },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				repo := offered(t)
				repo.Publish(tree())
				if damage != "" {
					repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
						at := strings.Index(r.URL.Path, "data/")
						if r.Header.Get("Pragma") != "no-cache" {
							w.Write([]byte(damage))
						}
						w.Write(repo.Get(r.URL.Path[at:]))
					})
				}
				s := newStore(t)
				snapshot(t, replicator(t, repo.URL, to(s), trusting(repo)))
				sameObjects(t, repo, s)
			})
		}
	}
}

func TestCancelled(t *testing.T) {
	repo := offered(t)
	repo.Publish(tree())
	ctx, cancel := context.WithCancel(t.Context())
	repo.Fault("data/", func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	s := newStore(t)
	_, err := replicator(t, repo.URL, s, func(o *replica.Options) { trusting(repo)(o) }).Snapshot(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if get(t, s, ".cvmfs_is_snapshotting") != nil {
		t.Error("the note of a snapshot under way stayed")
	}
	unlock, err := s.Lock(t.Context(), "next")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
