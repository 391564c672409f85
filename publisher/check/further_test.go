package check_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/check"
)

// What no publisher would write by mistake, and a foreign or a forged
// repository may have.
func TestFurtherBreakagesAreFound(t *testing.T) {
	whole := sample(t, object.Zlib)
	edit := func(mount string, sql ...string) func(*testing.T, *testsite.Site) {
		return func(_ *testing.T, s *testsite.Site) { s.Edit(mount, sql...) }
	}
	// unlisted takes a root object off the reflog.
	unlisted := func(of func(manifest.Manifest) object.Hash) func(*testing.T, *testsite.Site) {
		return func(t *testing.T, s *testsite.Site) {
			h := of(s.Head())
			s.Log(func(l *reflog.Log) {
				if err := l.Remove(h); err != nil {
					t.Error(err)
				}
			})
		}
	}
	whitelist := func(change func(*manifest.Whitelist, *testsite.Site)) func(*testing.T, *testsite.Site) {
		return func(t *testing.T, s *testsite.Site) {
			w := manifest.Whitelist{
				Name: testsite.Name, Created: s.Now(), Expires: s.Now().Add(24 * time.Hour),
				Fingerprints: []object.Hash{s.Keys.Certificate.Fingerprint(object.SHAKE128)},
			}
			change(&w, s)
			raw, err := w.Sign(s.Master, object.SHAKE128)
			if err != nil {
				t.Fatal(err)
			}
			s.Write(".cvmfswhitelist", raw)
		}
	}
	for _, b := range []struct {
		name    string
		do      func(t *testing.T, s *testsite.Site)
		kind    check.Kind
		want    string
		warning bool
	}{
		{"root is a file", edit("", "UPDATE catalog SET mode = 33188, flags = 4, hash = zeroblob(20) WHERE "+key("")), check.Entry, "the root is no directory", false},
		{"root has a name", edit("", "UPDATE catalog SET name = 'x' WHERE "+key("")), check.Entry, "the repository's root has a parent, a name", false},
		{"root has a parent", edit("", "UPDATE catalog SET parent_1 = 5 WHERE "+key("")), check.Entry, "no row for its root", false},
		{"root is nested", edit("", "UPDATE catalog SET flags = 33 WHERE "+key("")), check.Entry, "the repository's root has a parent, a name", false},
		{"nested root has another name", edit(demo, "UPDATE catalog SET name = 'x' WHERE "+key(demo)), check.Nested, "has another name or parent", false},
		{"nested root has another parent", edit(demo, "UPDATE catalog SET parent_1 = 5 WHERE "+key(demo)), check.Nested, "has another name or parent", false},
		{"nested root within", edit(demo, "UPDATE catalog SET flags = 33 WHERE "+key(demo+"/etc")), check.Nested, "and lies within one", false},
		{"listed elsewhere", edit("/rootfs/demo", "UPDATE nested_catalogs SET path = '/elsewhere' WHERE path = '"+demo+"'"), check.Nested, "it is not below /rootfs/demo", false},
		{"listed at a neighbour's", edit("/rootfs/demo", "UPDATE nested_catalogs SET path = '/rootfs/demox' WHERE path = '"+demo+"'"), check.Nested, "it is not below /rootfs/demo", false},
		{"listed twice", edit("/rootfs/demo", "CREATE TABLE n (path TEXT, sha1 TEXT, size INTEGER)", "INSERT INTO n SELECT * FROM nested_catalogs UNION ALL SELECT * FROM nested_catalogs",
			"DROP TABLE nested_catalogs", "ALTER TABLE n RENAME TO nested_catalogs"), check.Nested, "nested_catalogs lists it twice", false},
		{"nested and bind", edit("/rootfs/demo", "INSERT INTO bind_mountpoints SELECT * FROM nested_catalogs WHERE path = '"+demo+"'"), check.Bind, "as a nested catalog and as a bind mountpoint", false},
		{"bind without its flag", edit("/rootfs/demo", "INSERT INTO bind_mountpoints SELECT * FROM nested_catalogs WHERE path = '"+demo+"'", "DELETE FROM nested_catalogs WHERE path = '"+demo+"'"), check.Bind, "there is no such directory", false},
		{"marker in the root", func(_ *testing.T, s *testsite.Site) {
			p := catalog.KeyOf("")
			s.Edit("", "INSERT INTO catalog SELECT "+keyValues("/.cvmfscatalog")+", "+pair(p)+", 1, zeroblob(20), 0, 33188, 0, NULL, 4, '.cvmfscatalog', '', 0, 0, NULL")
		}, check.Marker, "there is no nested catalog here", false},
		{"group across directories", edit(demo, "UPDATE catalog SET hardlinks = (1 << 32) | 2 WHERE "+key(demo+"/etc/attr")+" OR "+key(demo+"/empty")), check.Links, "spans directories", false},
		{"name twice", edit(demo, "CREATE TABLE c AS SELECT * FROM catalog", "INSERT INTO c SELECT * FROM catalog WHERE "+key(demo+"/etc/attr"),
			"DROP TABLE catalog", "ALTER TABLE c RENAME TO catalog"), check.Entry, "the name comes twice", false},
		{"link to nothing", edit(demo, "UPDATE catalog SET symlink = '', size = 0 WHERE "+key(demo+"/bin")), check.Entry, "a link of 0 bytes", false},
		{"socket with a size", edit(demo, "UPDATE catalog SET mode = 49536, size = 3 WHERE "+key(demo+"/fifo")), check.Entry, "a FIFO or socket of 3 bytes", false},
		{"group of other names and contents", edit(demo, "UPDATE catalog SET mtime = mtime + 1 WHERE "+key(demo+"/etc/issue")), check.Links, "are one file, and disagree: times", false},
		{"no certificate named", func(t *testing.T, s *testsite.Site) {
			m := s.Head()
			m.Certificate = object.Hash{}
			raw, err := manifest.Seal(m.Print(), object.SHAKE128, func([]byte) ([]byte, error) { return []byte("x"), nil })
			if err != nil {
				t.Fatal(err)
			}
			s.Write(".cvmfspublished", raw)
		}, check.Certificate, "names no certificate", false},
		{"certificate that is none", func(_ *testing.T, s *testsite.Site) {
			h := s.Put([]byte("no PEM"), object.Certificate)
			s.Adopt(func(m *manifest.Manifest) { m.Certificate = h })
		}, check.Certificate, "no PEM block", false},
		{"whitelist of another repository", whitelist(func(w *manifest.Whitelist, _ *testsite.Site) { w.Name = "other.example.org" }), check.Whitelist, "it is that of other.example.org", false},
		{"whitelist expired", whitelist(func(w *manifest.Whitelist, s *testsite.Site) { w.Expires = s.Now().Add(-time.Hour) }), check.Whitelist, "it expired at", false},
		{"whitelist that is none", func(_ *testing.T, s *testsite.Site) { s.Write(".cvmfswhitelist", []byte("rubbish")) }, check.Whitelist, "no signature block", false},
		{"metainfo too long", func(_ *testing.T, s *testsite.Site) {
			h := s.Put([]byte(`{"description":"`+strings.Repeat("x", 70000)+`"}`), object.Metainfo)
			s.Adopt(func(m *manifest.Manifest) { m.Metainfo = h })
		}, check.Metainfo, "clients show 65536 bytes", true},
		{"unknown compression", func(_ *testing.T, s *testsite.Site) {
			h := s.Put([]byte(`{"custom":{"rootstock":{"compression":"lz4"}}}`), object.Metainfo)
			s.Adopt(func(m *manifest.Manifest) { m.Metainfo = h })
		}, check.Metainfo, "lz4", false},
		{"history that is none", func(_ *testing.T, s *testsite.Site) {
			h := s.Put([]byte("x"), object.History)
			s.Adopt(func(m *manifest.Manifest) { m.History = h })
		}, check.History, "", false},
		{"history without a tag's hash", func(_ *testing.T, s *testsite.Site) { s.History("UPDATE tags SET hash = '' WHERE name = 'trunk'") }, check.History, "trunk", false},
		{"branch without a name", func(_ *testing.T, s *testsite.Site) { s.History("INSERT INTO branches VALUES ('a b', '', 1)") }, check.History, "this is no name", false},
		{"tag ahead of the repository", func(_ *testing.T, s *testsite.Site) { s.History("UPDATE tags SET revision = 99 WHERE name = 'trunk'") }, check.History, "tag trunk is revision 99, the repository is at 4", false},
		{"no reflog", func(_ *testing.T, s *testsite.Site) { s.Remove(".cvmfsreflog") }, check.Reflog, "is not there", true},
		{"reflog that is none", func(_ *testing.T, s *testsite.Site) { s.Write(".cvmfsreflog", []byte("x")) }, check.Reflog, "", false},
		{"reflog of another repository", func(_ *testing.T, s *testsite.Site) {
			s.Write(".cvmfsreflog", s.Database(s.Read(".cvmfsreflog"), "UPDATE properties SET value = 'other.example.org' WHERE key = 'fqrn'"))
		}, check.Reflog, "it is that of other.example.org", false},
		{"reflog of another time", func(_ *testing.T, s *testsite.Site) {
			s.Write(".cvmfsreflog", s.Database(s.Read(".cvmfsreflog"), "UPDATE refs SET timestamp = 1"))
		}, check.Reflog, "it is not the one that the manifest names", true},
		{"reflog without certificate", unlisted(func(m manifest.Manifest) object.Hash { return m.Certificate }), check.Reflog, "the manifest's certificate", false},
		{"reflog without history", unlisted(func(m manifest.Manifest) object.Hash { return m.History }), check.Reflog, "the manifest's history", false},
		{"reflog without metainfo", unlisted(func(m manifest.Manifest) object.Hash { return m.Metainfo }), check.Reflog, "the manifest's metainfo", false},
		{"reflog with another type", func(_ *testing.T, s *testsite.Site) {
			s.Write(".cvmfsreflog", s.Database(s.Read(".cvmfsreflog"), "UPDATE refs SET type = 3 WHERE type = 0"))
		}, check.Reflog, "the manifest's catalog", false},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := whole.Clone(t)
			b.do(t, s)
			o := options(s)
			o.NoContent = true
			found, _ := run(t, o)
			for _, f := range found {
				if f.Kind == b.kind && f.Warning == b.warning && strings.Contains(f.String(), b.want) {
					return
				}
			}
			t.Errorf("no finding like %q among %v", b.want, found)
		})
	}
}

func pair(k catalog.PathKey) string { return fmt.Sprintf("%d, %d", k.A, k.B) }
