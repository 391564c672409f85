package check_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/check"
	"github.com/rootstock-cf/rootstock/store"
)

// A directory that contains itself, rows that come twice, and more nonsense
// than anybody wants to read must all end.
func TestRowsInCircles(t *testing.T) {
	s := testsite.New(t, publisher.Settings{Compression: object.Zlib, Algorithm: object.SHA1})
	s.Rootfs("demo", "1", testsite.File("a/b/c", "x"))
	k := catalog.KeyOf(demo + "/a/b")
	s.Edit(demo, fmt.Sprintf("UPDATE catalog SET parent_1 = %d, parent_2 = %d WHERE name = 'a'", k.A, k.B))
	found, _ := run(t, options(s))
	if !has(found, check.Dangling, "no directory leads to it") {
		t.Errorf("%v", found)
	}
}

func TestNestedCatalogsInCircles(t *testing.T) {
	s := testsite.New(t, publisher.Settings{Compression: object.Zlib, Algorithm: object.SHA1})
	s.Rootfs("demo", "1", testsite.File("a", "x"))
	root := s.Head().RootCatalog
	s.Edit("/rootfs/demo", "UPDATE nested_catalogs SET sha1 = '"+root.String()+"', size = 0")
	found, _ := run(t, options(s))
	if !has(found, check.Catalog, "it says that it is the catalog of /") {
		t.Errorf("%v", found)
	}
}

func TestFindingsAreBounded(t *testing.T) {
	s := testsite.New(t, publisher.Settings{Compression: object.Zlib, Algorithm: object.SHA1})
	s.Edit("", `WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 120000)
		INSERT INTO catalog SELECT i, i, 7, 7, 1, NULL, 4096, 16877, 0, 0, 1, 'd', '', 0, 0, NULL FROM n`)
	found, r := run(t, options(s))
	if len(found) > 100_001 || r.Findings < 120_000 {
		t.Errorf("%d handed out of %d", len(found), r.Findings)
	}
	if last := found[len(found)-1].Reason; !strings.Contains(last, "more findings") {
		t.Error(last)
	}
}

func has(found []check.Finding, k check.Kind, part string) bool {
	for _, f := range found {
		if f.Kind == k && strings.Contains(f.Reason, part) {
			return true
		}
	}
	return false
}

// getter hides everything of a store but Get, as a server does.
type getter struct {
	store.Getter
	fail string
	gets map[string]int
}

func (g *getter) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if g.gets != nil {
		g.gets[name]++
	}
	if name == g.fail {
		return nil, errors.New("the disk is on fire")
	}
	return g.Getter.Get(ctx, name)
}

func TestReadsNoObjectTwice(t *testing.T) {
	s := sample(t, object.Zstd)
	o := options(s)
	g := &getter{Getter: s.Store, gets: map[string]int{}}
	o.Store, o.Workers = g, 1
	found, _ := run(t, o)
	if len(found) > 0 {
		t.Fatal(found)
	}
	for name, n := range g.gets {
		h, typ, ok := object.ParsePath(name)
		// Catalogs of trees are read again to be compared, and so are
		// listing and table, which the sweep of all objects reads, too.
		if ok && typ == object.Partial && n > 1 || n > 3 {
			t.Errorf("%s %s was read %d times", typ, h, n)
		}
	}
}

func TestExistenceOnly(t *testing.T) {
	for _, remote := range []bool{false, true} {
		s := sample(t, object.Zlib)
		corrupt(s, s.Object(demo, demo+"/etc/attr"), 5)
		o := options(s)
		o.NoContent = true
		if remote {
			o.Store = &getter{Getter: s.Store}
		}
		found, r := run(t, o)
		if len(found) > 0 || r.Objects < 10 {
			t.Errorf("damage is not to be looked for: %v, %+v", found, r)
		}
		s.Remove(s.Object(demo, demo+"/etc/attr"))
		found, _ = run(t, o)
		if len(found) != 1 || found[0].Kind != check.Missing || found[0].Path != demo+"/etc/attr" {
			t.Errorf("%v", found)
		}
	}
}

func TestWhatCannotBeReadIsAFinding(t *testing.T) {
	s := sample(t, object.Zlib)
	o := options(s)
	for _, name := range []string{s.Object(demo, demo+"/etc/attr"), object.Path(s.Head().RootCatalog, object.Catalog), ".cvmfsreflog", ".cvmfswhitelist"} {
		o.Store = &getter{Getter: s.Store, fail: name}
		found, _ := run(t, o)
		if len(found) == 0 || found[0].Kind == check.Missing || !strings.Contains(found[0].Reason, "on fire") {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestNoRepository(t *testing.T) {
	s := sample(t, object.Zlib)
	s.Remove(".cvmfspublished")
	if _, err := check.Run(t.Context(), options(s)); err == nil || !strings.Contains(err.Error(), "no repository here") {
		t.Error(err)
	}
}

func TestEndsWithItsContext(t *testing.T) {
	s := sample(t, object.Zlib)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := options(s)
	o.Found = func(f check.Finding) { t.Errorf("a cancelled check found %v", f) }
	if _, err := check.Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The signature on the whitelist is asked for only where there is a key to
// verify it with.
func TestWithoutAKey(t *testing.T) {
	s := sample(t, object.Zlib)
	other, _, err := manifest.GenerateKeys("other.example.org", manifest.KeyOptions{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	o := options(s)
	o.Masters = append(o.Masters[:0:0], &other.Release.PublicKey)
	if found, _ := run(t, o); !has(found, check.Signature, "none of the 1 master public keys") {
		t.Errorf("%v", found)
	}
	o.Masters = nil
	if found, _ := run(t, o); len(found) > 0 {
		t.Errorf("%v", found)
	}
}

func TestTagsAreChecked(t *testing.T) {
	s := sample(t, object.Zlib)
	old := s.Object(demo, demo+"/etc/attr")
	// trunk-previous still has the version that the head loses.
	s.Edit("/rootfs/demo",
		"DELETE FROM nested_catalogs WHERE path = '"+demo+"'",
		"DELETE FROM catalog WHERE "+key(demo),
		"UPDATE catalog SET hardlinks = hardlinks - 1 WHERE "+key("/rootfs/demo"),
		"UPDATE statistics SET value = 0 WHERE counter LIKE 'self_%'")
	corrupt(s, old, 5)
	o := options(s)
	withTags, _ := run(t, o)
	o.Tags = false
	without, _ := run(t, o)
	if !has(withTags, check.Content, "corrupt object") || has(without, check.Content, "") {
		t.Errorf("with tags %v, without %v", withTags, without)
	}
}
