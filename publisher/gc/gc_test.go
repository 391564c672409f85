package gc_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/check"
	"github.com/rootstock-cf/rootstock/publisher/gc"
	"github.com/rootstock-cf/rootstock/store"
)

var settings = publisher.Settings{Compression: object.Zlib, Algorithm: object.SHAKE128}

// options collect all they can: nothing runs, and nothing is spared for its
// age.
func options(s *testsite.Site) gc.Options {
	s.Stamp()
	return gc.Options{Store: s.Store, Keys: s.Keys, Leases: gc.NewLeases(s.Now()), Now: s.Now, Memory: 1 << 10}
}

func collect(t testing.TB, o gc.Options) *gc.Result {
	t.Helper()
	o.TempDir = t.TempDir()
	var p gc.Progress
	o.Progress = &p
	r, err := gc.Collect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if p.Swept.Load() != gc.Prefixes || p.Catalogs.Load() != int64(r.Catalogs) || p.Deleted.Load() != r.Deleted || p.Bytes.Load() != r.Bytes {
		t.Errorf("%d parts swept, %d catalogs, %d deleted, %d bytes: %+v", p.Swept.Load(), p.Catalogs.Load(), p.Deleted.Load(), p.Bytes.Load(), r)
	}
	return r
}

// whole fails the test unless the newest revision and all tags are.
func whole(t testing.TB, s *testsite.Site) {
	t.Helper()
	_, err := check.Run(t.Context(), check.Options{
		Store: s.Store, Masters: []*rsa.PublicKey{&s.Master.PublicKey}, Tags: true, Now: s.Now, TempDir: t.TempDir(),
		Found: func(f check.Finding) { t.Errorf("%v", f) },
	})
	if err != nil {
		t.Error(err)
	}
}

func objects(t testing.TB, s *testsite.Site) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	if err := s.Store.List(t.Context(), "data/", func(name string, _ int64) error { all[name] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// untag takes a revision's last name away, so that only age keeps it.
func untag(t testing.TB, s *testsite.Site) {
	t.Helper()
	s.History("DELETE FROM tags WHERE name = '" + history.TrunkPrevious + "'")
}

// replaced is a site whose version 1 of demo is in revision 2 only.
func replaced(t testing.TB) (s *testsite.Site, tree, object1 string) {
	t.Helper()
	s = testsite.New(t, settings)
	r := s.Rootfs("demo", "1", testsite.File("only-in-one", "one"), testsite.File("shared", "both"))
	object1 = s.Object(r.Path, r.Path+"/only-in-one")
	forget(t, s)
	s.Sleep(time.Hour)
	s.Rootfs("demo", "2", testsite.File("shared", "both"))
	untag(t, s)
	return s, r.Tree, object1
}

// forget makes an empty revision, as removing everything would.
func forget(t testing.TB, s *testsite.Site) {
	t.Helper()
	s.Edit("", "DELETE FROM nested_catalogs", "DELETE FROM catalog WHERE name <> ''",
		"UPDATE catalog SET hardlinks = 2", "UPDATE statistics SET value = 0", "UPDATE statistics SET value = 1 WHERE counter = 'self_dir'",
		"UPDATE properties SET value = value + 1 WHERE key = 'revision'",
		"UPDATE properties SET value = '"+s.Head().RootCatalog.String()+"' WHERE key = 'previous_revision'")
	s.Sign(func(m *manifest.Manifest) { m.Revision++ })
	s.History("UPDATE tags SET revision = revision + 1 WHERE name = 'trunk'")
}

func TestCollects(t *testing.T) {
	s, _, gone := replaced(t)
	before := s.Head()
	s.Sleep(time.Hour)
	var log bytes.Buffer
	o := options(s)
	o.DeletionLog = &log
	o.DryRun = true
	all := objects(t, s)
	dry := collect(t, o)
	if !maps.Equal(all, objects(t, s)) || s.Head() != before {
		t.Error("a dry run changed the repository")
	}
	log.Reset()
	o.DryRun = false
	firstHistory := ""
	s.Log(func(l *reflog.Log) {
		refs, err := l.List()
		if err != nil {
			t.Error(err)
		}
		i := slices.IndexFunc(refs, func(r reflog.Ref) bool { return r.Type == object.History })
		firstHistory = object.Path(refs[i].Hash, object.History)
	})
	before = s.Head()
	r := collect(t, o)
	if r.Deleted == 0 || r.Deleted != dry.Deleted || r.Bytes != dry.Bytes || r.RevisionsDropped == 0 {
		t.Errorf("%+v, dry %+v", r, dry)
	}
	left := objects(t, s)
	if left[gone] || left[firstHistory] {
		t.Errorf("still there: %s %v, %s %v", gone, left[gone], firstHistory, left[firstHistory])
	}
	if int64(len(all)-len(left)) != r.Deleted || int64(len(left)) != r.Kept {
		t.Errorf("%d objects before, %d now; %+v", len(all), len(left), r)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != int(r.Deleted)+2 || !strings.HasPrefix(lines[0], "# Garbage Collection started at ") ||
		!strings.HasPrefix(lines[len(lines)-1], "# Garbage Collection finished at ") || !slices.Contains(lines, gone) {
		t.Errorf("deletion log %q", lines)
	}
	whole(t, s)
	after := s.Head()
	if after.Revision != before.Revision || after.RootCatalog != before.RootCatalog || after.Reflog == before.Reflog {
		t.Errorf("manifest was %+v, is %+v", before, after)
	}
	if got := after.RootCatalog.Algorithm.Sum(s.Read(".cvmfsreflog")); got != after.Reflog {
		t.Errorf("reflog is %s, the manifest says %s", got, after.Reflog)
	}
	if b := s.Read(".cvmfs_status.json"); !bytes.Contains(b, []byte(`"last_gc":"`)) {
		t.Errorf("status %s", b)
	}
	s.Log(func(l *reflog.Log) {
		refs, err := l.List()
		if err != nil {
			t.Error(err)
		}
		for _, ref := range refs {
			if !left[object.Path(ref.Hash, ref.Type)] {
				t.Errorf("the reflog lists %s %s, which is gone", ref.Type, ref.Hash)
			}
		}
	})
	if again := collect(t, options(s)); again.Deleted != 0 {
		t.Errorf("the second run deleted %d", again.Deleted)
	}
	// What was collected cannot be kept, and is no error.
	o = options(s)
	o.KeepRevisions, o.KeepFor = 10, 1000*time.Hour
	collect(t, o)
	whole(t, s)
	// Whoever publishes the same again finds what was deleted missing.
	s.Rootfs("demo", "1", testsite.File("only-in-one", "one"), testsite.File("shared", "both"))
	whole(t, s)
	if !objects(t, s)[gone] {
		t.Errorf("%s was not stored again", gone)
	}
}

func TestWhatStays(t *testing.T) {
	for name, c := range map[string]struct {
		keep  func(s *testsite.Site, tree string, o *gc.Options)
		stays bool
	}{
		"nothing is told":    {func(*testsite.Site, string, *gc.Options) {}, false},
		"last two revisions": {func(_ *testsite.Site, _ string, o *gc.Options) { o.KeepRevisions = 2 }, false},
		"last three":         {func(_ *testsite.Site, _ string, o *gc.Options) { o.KeepRevisions = 3 }, true},
		"half an hour":       {func(_ *testsite.Site, _ string, o *gc.Options) { o.KeepFor = 30 * time.Minute }, false},
		"five hours":         {func(_ *testsite.Site, _ string, o *gc.Options) { o.KeepFor = 5 * time.Hour }, true},
		"a long grace":       {func(_ *testsite.Site, _ string, o *gc.Options) { o.Grace = 5 * time.Hour }, true},
		"a long grace and no leases": {func(_ *testsite.Site, _ string, o *gc.Options) {
			o.Leases, o.Grace = nil, 48*time.Hour
		}, true},
		"leases of long ago": {func(s *testsite.Site, _ string, o *gc.Options) { o.Leases.Taken = s.Now().Add(-5 * time.Hour) }, true},
		"a tag": {func(s *testsite.Site, _ string, _ *gc.Options) {
			s.History("INSERT INTO tags SELECT 'kept', '" + second(s) + "', 2, 1, 0, '', 0, '' FROM tags WHERE name = 'trunk'")
		}, true},
		"its tree is leased": {func(_ *testsite.Site, tree string, o *gc.Options) {
			id, _ := object.ParseContentID(tree)
			o.Leases.Trees[id] = true
		}, true},
		"another tree is leased": {func(_ *testsite.Site, _ string, o *gc.Options) {
			o.Leases.Trees[object.ContentOf([]byte("x"))] = true
		}, false},
		"its catalog is leased": {func(s *testsite.Site, _ string, o *gc.Options) {
			for name := range objects(t, s) {
				if h, typ, _ := object.ParsePath(name); typ == object.Catalog && bytes.Contains(s.Plain(h, typ), []byte("only-in-one")) {
					o.Leases.Catalogs[h] = true
				}
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, tree, obj := replaced(t)
			s.Sleep(2 * time.Hour)
			for range 2 { // what a lease keeps once it keeps the next time
				o := options(s)
				c.keep(s, tree, &o)
				r := collect(t, o)
				if got := objects(t, s)[obj]; got != c.stays {
					t.Fatalf("%s is there: %v, want %v; %+v", obj, got, c.stays, r)
				}
				whole(t, s)
				if name == "a tag" {
					break // it is there already
				}
				if (name == "another tree is leased") != (len(r.Notes) > 0) {
					t.Errorf("notes %q", r.Notes)
				}
			}
		})
	}
}

// second is the root catalog of revision 2.
func second(s *testsite.Site) (hash string) {
	s.Log(func(l *reflog.Log) {
		refs, _ := l.List()
		for _, ref := range refs {
			if ref.Type == object.Catalog && bytes.Contains(s.Plain(ref.Hash, ref.Type), []byte("rootfs")) {
				hash = ref.Hash.String()
				return
			}
		}
	})
	return hash
}

func TestStrays(t *testing.T) {
	s := testsite.New(t, settings)
	s.Rootfs("demo", "1", testsite.File("a", "a"), testsite.File("big", testsite.Large()))
	s.Image("app", "v1", testsite.File("app", "#!"))
	s.Sleep(24 * time.Hour)
	put := func(text string, typ object.Type) string {
		name := object.Path(object.SHAKE128.Sum([]byte(text)), typ)
		s.Write(name, []byte(text))
		return name
	}
	old := []string{put("aborted", object.Bulk), put("aborted", object.Partial), put("catalog", object.Catalog)}
	s.Write("data/aa/not-an-object", nil)
	s.Sleep(2 * time.Hour)
	young := put("young", object.Bulk)
	o := options(s)
	o.Grace = time.Hour
	r := collect(t, o)
	left := objects(t, s)
	for _, name := range old {
		if left[name] {
			t.Errorf("%s is still there", name)
		}
	}
	if !left[young] || r.Young != 1 || r.Deleted < 3 {
		t.Errorf("young object there: %v, %+v", left[young], r)
	}
	if !left["data/aa/not-an-object"] {
		t.Error("a file that is no object was deleted")
	}
	whole(t, s)
}

func TestRefusals(t *testing.T) {
	s, _, obj := replaced(t)
	head := object.Path(s.Head().RootCatalog, object.Catalog)
	for _, c := range []struct { // in this order: the last ones break the repository
		want   string
		change func(o *gc.Options)
	}{
		{"nothing says what containers run", func(o *gc.Options) { o.Leases = nil }},
		{"longer than any container lives", func(o *gc.Options) { o.Leases, o.Grace = nil, 23*time.Hour }},
		{"neither can be negative", func(o *gc.Options) { o.KeepFor = -1 }},
		{"neither can be negative", func(o *gc.Options) { o.Grace = -1 }},
		{"cannot list objects with their age", func(o *gc.Options) { o.Store = struct{ store.Store }{s.Store} }},
		{"was not signed with these keys", func(o *gc.Options) {
			k, _, err := manifest.GenerateKeys(testsite.Name, manifest.KeyOptions{Bits: 2048})
			if err != nil {
				t.Fatal(err)
			}
			o.Keys = k
		}},
		{"the store holds", func(o *gc.Options) {
			k := *s.Keys
			k.Name = "other.example.org"
			o.Keys = &k
		}},
		{"somebody else changed the repository", func(*gc.Options) {
			unlock, err := s.Store.Lock(t.Context(), "a publisher")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unlock() })
		}},
		{"does not allow garbage collection", func(o *gc.Options) {
			s = s.Clone(t)
			o.Store = s.Store
			s.Sign(func(m *manifest.Manifest) { m.GarbageCollectable = false })
		}},
		{"corrupt", func(*gc.Options) {
			s.Sign(func(m *manifest.Manifest) { m.GarbageCollectable = true })
			b := s.Read(head)
			s.Write(head, b[:len(b)-1])
		}},
		{"no such file", func(*gc.Options) { s.Remove(head) }},
		{"it is that of other.example.org", func(*gc.Options) {
			s.Write(".cvmfsreflog", s.Database(s.Read(".cvmfsreflog"), "UPDATE properties SET value = 'other.example.org' WHERE key = 'fqrn'"))
		}},
	} {
		o := options(s)
		c.change(&o)
		o.TempDir = t.TempDir()
		if _, err := gc.Collect(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if !objects(t, s)[obj] {
			t.Fatalf("%s: something was deleted", c.want)
		}
	}
}

func TestLeases(t *testing.T) {
	taken := time.Unix(1000, 0)
	id, h := object.ContentOf(nil), object.SHA1.Sum(nil)
	for text, want := range map[string]string{
		"": "", "\n\n": "",
		fmt.Sprintf("{\"tree\":%q,\"cell\":\"a\"}\n", id):         "tree",
		fmt.Sprintf("{\"catalog\":%q}\n", h):                      "catalog",
		fmt.Sprintf("{\"repository\":\"r\",\"catalog\":%q}\n", h): "catalog",
		"{\"repository\":\"other\",\"catalog\":\"x\"}\n":          "",
		fmt.Sprintf("{\"tree\":%q}", id):                          "line 1 is cut short",
		"{}\n":                                                    `line 1: neither "catalog" nor "tree"`,
		"\nx\n":                                                   "line 2: invalid",
		"{\"tree\":\"12\"}\n":                                     "line 1: tree",
		"{\"catalog\":\"12\"}\n":                                  "line 1: catalog",
		"{\"tree\":\"" + strings.Repeat("1", 70000) + "\"}\n":     "line 1 has more than",
	} {
		l := gc.NewLeases(taken.Add(time.Hour))
		err := l.Read(strings.NewReader(text), "r", taken)
		switch want {
		case "tree", "catalog", "":
			if err != nil || l.Trees[id] != (want == "tree") || l.Catalogs[h] != (want == "catalog") || !l.Taken.Equal(taken) {
				t.Errorf("%q: %+v, %v", text, l, err)
			}
		default:
			if !errors.Is(err, gc.ErrLease) || !strings.Contains(err.Error(), want) {
				t.Errorf("%.80q: %v, want %q", text, err, want)
			}
		}
	}
}

// Publishers and collectors at once: one waits for the other, and whatever a
// publisher finds stored and does not store again is there when it is done.
func TestBesidePublishers(t *testing.T) {
	s := testsite.New(t, settings)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var collections, deleted, refused atomic.Int64
	dir := t.TempDir()
	ended := make(chan struct{})
	wg.Go(func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			r, err := gc.Collect(context.Background(), gc.Options{
				Store: s.Store, Keys: s.Keys, Leases: gc.NewLeases(s.Now()), Now: s.Now, TempDir: dir,
			})
			switch {
			case err == nil:
				collections.Add(1)
				deleted.Add(r.Deleted)
			case errors.Is(err, store.ErrConflict):
				refused.Add(1)
			default:
				t.Error(err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 9 {
		// Few contents, so that versions share objects and some come back
		// after they have been out of use.
		var files []testsite.Entry
		for f := range 4 {
			files = append(files, testsite.File(fmt.Sprintf("f%d", f), fmt.Sprint("content ", rnd.IntN(6))))
		}
		for {
			err := s.TryRootfs("demo", fmt.Sprint(i), files...)
			if err == nil {
				break
			}
			if !errors.Is(err, store.ErrConflict) {
				t.Fatal(err)
			}
		}
		locked(t, s, func() {
			if i%3 == 2 {
				forget(t, s)
				untag(t, s)
			}
			s.Sleep(time.Hour)
			whole(t, s)
		})
		if i%3 != 0 { // at times one comes through for sure, at times as it happens
			for n := collections.Load(); collections.Load() == n; {
				select {
				case <-ended:
					t.FailNow()
				case <-time.After(time.Millisecond):
				}
			}
		}
	}
	close(stop)
	wg.Wait()
	whole(t, s)
	if deleted.Load() == 0 {
		t.Error("nothing was ever deleted")
	}
	t.Logf("%d collections deleted %d objects; %d met a publisher", collections.Load(), deleted.Load(), refused.Load())
}

// locked does what a publisher would, under the lock.
func locked(t *testing.T, s *testsite.Site, do func()) {
	t.Helper()
	for {
		unlock, err := s.Store.Lock(t.Context(), "a test")
		if err == nil {
			do()
			if err := unlock(); err != nil {
				t.Error(err)
			}
			return
		}
		if !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
	}
}

// After a rollback no chain of predecessors leads to what was rolled back; the
// reflog does.
func TestRolledBack(t *testing.T) {
	s := testsite.New(t, settings)
	r := s.Rootfs("demo", "1", testsite.File("only-in-one", "one"))
	gone := s.Object(r.Path, r.Path+"/only-in-one")
	s.Sleep(time.Hour)
	forget(t, s)
	s.Edit("", "DELETE FROM properties WHERE key = 'previous_revision'")
	untag(t, s)
	s.Sleep(time.Hour)
	for _, c := range []struct {
		keep  time.Duration
		stays bool
	}{{90 * time.Minute, true}, {time.Minute, false}} {
		o := options(s)
		o.KeepFor = c.keep
		if r := collect(t, o); objects(t, s)[gone] != c.stays {
			t.Errorf("kept for %s: %s is there: %v; %+v", c.keep, gone, !c.stays, r)
		}
		whole(t, s)
	}
}
