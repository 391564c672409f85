package check_test

import (
	"archive/tar"
	"bytes"
	"compress/zlib"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/check"
)

const demo = "/rootfs/demo/1"

// sample is a repository with a bit of everything.
func sample(t testing.TB, c object.Compression) *testsite.Site {
	t.Helper()
	s := testsite.New(t, publisher.Settings{Compression: c, Algorithm: object.SHAKE128})
	xattr := testsite.File("etc/attr", "attr")
	xattr.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y", "SCHILY.xattr.user.long": strings.Repeat("z", 300)}
	s.Rootfs("demo", "1",
		testsite.File("etc/motd", "welcome to the machine"), testsite.HardLink("etc/issue", "etc/motd"), testsite.HardLink("usr/motd", "etc/motd"),
		testsite.File("empty", ""), testsite.File("big", testsite.Large()), testsite.Link("bin", "usr/bin"), xattr,
		testsite.Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600}},
		testsite.Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
	)
	s.Rootfs("demo", "2", testsite.File("etc/motd", "welcome back"))
	s.Image("app", "v1", testsite.File("app", "#!"))
	return s
}

func options(s *testsite.Site) check.Options {
	return check.Options{Store: s.Store, Masters: []*rsa.PublicKey{&s.Master.PublicKey}, Tags: true, Now: s.Now, Workers: 2}
}

func run(t testing.TB, o check.Options) ([]check.Finding, *check.Report) {
	t.Helper()
	var all []check.Finding
	o.Found = func(f check.Finding) { all = append(all, f) }
	o.TempDir = t.TempDir()
	var p check.Progress
	o.Progress = &p
	r, err := check.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Objects > 0 && p.Asked.Load() == 0 || p.Answered.Load() != p.Asked.Load() {
		t.Errorf("dealt with %d of %d", p.Answered.Load(), p.Asked.Load())
	}
	return all, r
}

func TestWholeRepository(t *testing.T) {
	for _, c := range []object.Compression{object.Zlib, object.None, object.Zstd} {
		s := sample(t, c)
		found, r := run(t, options(s))
		if len(found) > 0 || !r.Clean() {
			t.Errorf("%s: %v", c, found)
		}
		// Two versions, one image; each in the head and, but for the image,
		// in the revision before, which is trunk-previous.
		if r.Name != testsite.Name || r.Revision != 4 || r.Trees != 3 || r.Catalogs < 10 || r.Bytes < 4<<20 {
			t.Errorf("%s: %+v", c, r)
		}
	}
}

// corrupt flips a byte of a file.
func corrupt(s *testsite.Site, name string, at int) {
	b := s.Read(name)
	b[at] ^= 1
	s.Write(name, b)
}

func key(path string) string {
	k := catalog.KeyOf(path)
	return fmt.Sprintf("md5path_1 = %d AND md5path_2 = %d", k.A, k.B)
}

func TestEachBreakageIsFound(t *testing.T) {
	type breakage struct {
		name string
		do   func(t *testing.T, s *testsite.Site)
		want string // kind: part of the line
		also []check.Kind
	}
	edit := func(mount string, sql ...string) func(*testing.T, *testsite.Site) {
		return func(_ *testing.T, s *testsite.Site) { s.Edit(mount, sql...) }
	}
	own := func(s *testsite.Site, name string) string {
		id := object.ContentID{}
		for _, x := range s.Row(demo, demo).XAttrs {
			if x.Name == "user.rootstock.tree" {
				id, _ = object.ParseContentID(string(x.Value))
			}
		}
		return "/.rootstock/trees/" + id.String()[:2] + "/" + id.String() + "/" + name
	}
	whole := sample(t, object.Zlib)
	for _, b := range []breakage{
		{"manifest changed after signing", func(_ *testing.T, s *testsite.Site) { corrupt(s, ".cvmfspublished", 5) }, "manifest: .cvmfspublished: bad signature", nil},
		{"manifest signed by another key", func(t *testing.T, s *testsite.Site) {
			other, _, err := manifest.GenerateKeys(testsite.Name, manifest.KeyOptions{Bits: 2048})
			if err != nil {
				t.Fatal(err)
			}
			m := s.Head()
			raw, err := m.Sign(other.Release, m.RootCatalog.Algorithm)
			if err != nil {
				t.Fatal(err)
			}
			s.Write(".cvmfspublished", raw)
		}, "signature: .cvmfspublished: ", nil},
		{"manifest too long", func(t *testing.T, s *testsite.Site) {
			env, err := manifest.Open(s.Read(".cvmfspublished"))
			if err != nil {
				t.Fatal(err)
			}
			body := append(slices.Clone(env.Body), "Q"+strings.Repeat("x", 4000)+"\n"...)
			raw, err := manifest.Seal(body, object.SHAKE128, func(text []byte) ([]byte, error) {
				sum := sha1.Sum(text)
				return rsa.SignPKCS1v15(nil, s.Keys.Release, crypto.SHA1, sum[:])
			})
			if err != nil {
				t.Fatal(err)
			}
			s.Write(".cvmfspublished", raw)
		}, "stock tools read 4096", nil},
		{"whitelist signed by another master", func(_ *testing.T, s *testsite.Site) {
			raw, err := manifest.Whitelist{
				Name: testsite.Name, Created: s.Now(), Expires: s.Now().Add(time.Hour * 24),
				Fingerprints: []object.Hash{s.Keys.Certificate.Fingerprint(object.SHAKE128)},
			}.Sign(s.Keys.Release, object.SHAKE128)
			if err == nil {
				s.Write(".cvmfswhitelist", raw)
			}
		}, "signature: .cvmfswhitelist: ", nil},
		{"certificate not on the whitelist, which has expired", func(_ *testing.T, s *testsite.Site) {
			raw, err := manifest.Whitelist{
				Name: testsite.Name, Created: s.Now(), Expires: s.Now().Add(-time.Hour * 24),
				Fingerprints: []object.Hash{object.SHA1.Sum(nil)},
			}.Sign(s.Master, object.SHAKE128)
			if err == nil {
				s.Write(".cvmfswhitelist", raw)
			}
		}, "is not on it", nil},
		{"whitelist gone", func(_ *testing.T, s *testsite.Site) { s.Remove(".cvmfswhitelist") }, "missing: .cvmfswhitelist: is not there", nil},
		{"certificate damaged", func(_ *testing.T, s *testsite.Site) {
			corrupt(s, object.Path(s.Head().Certificate, object.Certificate), 40)
		}, "certificate: data/", nil},
		{"metainfo of another encoder", func(_ *testing.T, s *testsite.Site) {
			m := s.Head()
			stored := storedLevel0(s.Plain(m.Metainfo, object.Metainfo))
			h := m.RootCatalog.Algorithm.Sum(stored)
			s.Write(object.Path(h, object.Metainfo), stored)
			s.Adopt(func(m *manifest.Manifest) { m.Metainfo = h })
		}, "a stock stratum 1 would serve others", nil},
		{"metainfo that is no JSON", func(_ *testing.T, s *testsite.Site) {
			h := s.Put([]byte("{"), object.Metainfo)
			s.Adopt(func(m *manifest.Manifest) { m.Metainfo = h })
		}, "metainfo: data/", nil},
		{"history of another repository", func(_ *testing.T, s *testsite.Site) {
			s.History("UPDATE properties SET value = 'other' WHERE key = 'fqrn'")
		}, "history: data/", nil},
		{"tag on no branch", func(_ *testing.T, s *testsite.Site) {
			s.History("PRAGMA foreign_keys = off; UPDATE tags SET branch = 'b' WHERE name = 'trunk'")
		}, `tag trunk is on the branch "b", which there is not`, nil},
		{"tag before its branch", func(_ *testing.T, s *testsite.Site) {
			s.History("INSERT INTO branches VALUES ('b', '', 99); UPDATE tags SET branch = 'b' WHERE name = 'trunk'")
		}, `tag trunk is revision 4, its branch "b" begins with 99`, nil},
		{"tag of nothing", func(_ *testing.T, s *testsite.Site) {
			s.History("UPDATE tags SET hash = '" + strings.Repeat("1", 40) + "' WHERE name = 'trunk-previous'")
		}, "missing: \"/\": data/11/", nil},
		{"reflog without the head", func(_ *testing.T, s *testsite.Site) {
			m := s.Head()
			s.Log(func(l *reflog.Log) {
				if err := l.Remove(m.RootCatalog); err != nil {
					t.Error(err)
				}
			})
		}, "reflog: .cvmfsreflog: the manifest's catalog", nil},
		{"root catalog of another revision", func(_ *testing.T, s *testsite.Site) {
			s.Sign(func(m *manifest.Manifest) { m.Revision++ })
		}, "it is revision 4, the manifest says 5", nil},
		{"size of the root catalog", func(_ *testing.T, s *testsite.Site) {
			s.Sign(func(m *manifest.Manifest) { m.CatalogSize++ })
		}, "catalog: \"/\": data/", nil},
		{"size of a nested catalog", edit("/rootfs/demo", "UPDATE nested_catalogs SET size = size + 1"), "catalog: \"/rootfs/demo/", nil},
		{"nested catalog gone", func(_ *testing.T, s *testsite.Site) {
			h := s.Put([]byte("x"), object.Catalog)
			s.Edit("/rootfs/demo", "UPDATE nested_catalogs SET sha1 = '"+h.String()+"' WHERE path = '"+demo+"'")
			s.Remove(object.Path(h, object.Catalog))
		}, "missing: \"/rootfs/demo/1\": data/", nil},
		{"write-ahead log format", func(_ *testing.T, s *testsite.Site) {
			s.Replace(demo, func(b []byte) []byte { b[18], b[19] = 2, 2; return b })
		}, "not in rollback journal format", []check.Kind{check.Catalog}},
		{"catalog of another path", edit(demo, "UPDATE properties SET value = '/elsewhere' WHERE key = 'root_prefix'"), "it is the catalog of /elsewhere", nil},
		{"no root row", edit(demo, "DELETE FROM catalog WHERE "+key(demo)), "no row for its root", []check.Kind{check.Counters, check.Dangling}},
		{"root without its flag", edit(demo, "UPDATE catalog SET flags = 1 WHERE "+key(demo)), "lacks its flag", nil},
		{"rows of a transition point disagree", edit(demo, "UPDATE catalog SET mtime = mtime + 1, uid = 7 WHERE "+key(demo)), "and the one above it disagree: times", []check.Kind{check.Tree}},
		{"no marker", edit(demo, "DELETE FROM catalog WHERE name = '.cvmfscatalog'"), "no file .cvmfscatalog", []check.Kind{check.Counters}},
		{"stray marker", edit(demo, "UPDATE catalog SET (md5path_1, md5path_2, name) = ("+keyValues(demo+"/etc/.cvmfscatalog")+", '.cvmfscatalog') WHERE "+key(demo+"/etc/attr")), "there is no nested catalog here", []check.Kind{check.Tree}},
		{"mountpoint without catalog", edit("/rootfs/demo", "DELETE FROM nested_catalogs WHERE path = '/rootfs/demo/2'"), "no catalog is registered for it", []check.Kind{check.Counters, check.Tree}},
		{"catalog without mountpoint", edit("/rootfs/demo", "UPDATE catalog SET flags = 1 WHERE "+key(demo)), "there is no mountpoint", []check.Kind{check.Links}},
		{"catalog without a hash", edit("/rootfs/demo", "UPDATE nested_catalogs SET sha1 = '' WHERE path = '/rootfs/demo/2'"), "names no catalog for it", []check.Kind{check.Counters}},
		{"rows below a mountpoint", edit("/rootfs/demo", insertCopy("/rootfs/demo/.cvmfscatalog", demo+"/x")), "has rows below it", []check.Kind{check.Counters, check.Dangling}},
		{"bind mountpoint without directory", edit(demo, "INSERT INTO bind_mountpoints VALUES ('"+demo+"/b', '"+strings.Repeat("1", 40)+"', 1)"), "bind: ", nil},
		{"dangling row", edit(demo, insertCopy(demo+"/etc/attr", "/nowhere/attr")), "no directory leads to it", []check.Kind{check.Counters, check.Tree}},
		{"key of another path", edit(demo, "UPDATE catalog SET md5path_1 = 1 WHERE "+key(demo+"/etc/attr")), "its key is not that of its path", []check.Kind{check.Dangling, check.Tree}},
		{"NULL as a name", edit(demo, "UPDATE catalog SET name = NULL WHERE "+key(demo+"/etc/attr")), "NULL", []check.Kind{check.Tree}},
		{"empty name", edit(demo, "UPDATE catalog SET name = '' WHERE "+key(demo+"/etc/attr")), "entry: ", []check.Kind{check.Tree}},
		{"file without content", edit(demo, "UPDATE catalog SET hash = NULL WHERE "+key(demo+"/etc/attr")), "a file without content", []check.Kind{check.Tree}},
		{"no links", edit(demo, "UPDATE catalog SET hardlinks = 0 WHERE "+key(demo+"/etc/attr")), "no links at all", []check.Kind{check.Tree}},
		{"links of a directory", edit(demo, "UPDATE catalog SET hardlinks = 9 WHERE "+key(demo+"/etc")), "9 links instead of 2", []check.Kind{check.Tree}},
		{"directory in a group", edit(demo, "UPDATE catalog SET hardlinks = (5 << 32) | 2 WHERE "+key(demo+"/etc")), "a directory in the hard link group 5", []check.Kind{check.Tree}},
		{"group too small", edit(demo, "UPDATE catalog SET hardlinks = (1 << 32) | 3 WHERE hardlinks = (1 << 32) | 2"), "has 2 names and a link count of 3", []check.Kind{check.Tree}},
		{"group disagrees", edit(demo, "UPDATE catalog SET uid = 7 WHERE "+key(demo+"/etc/issue")), "are one file, and disagree: owners", []check.Kind{check.Tree}},
		{"link with the wrong size", edit(demo, "UPDATE catalog SET size = 3 WHERE "+key(demo+"/bin")), "a link of 3 bytes", []check.Kind{check.Tree}},
		{"link with content", edit(demo, "UPDATE catalog SET hash = zeroblob(20) WHERE "+key(demo+"/bin")), "has content", []check.Kind{check.Tree}},
		{"FIFO with a size", edit(demo, "UPDATE catalog SET size = 3 WHERE "+key(demo+"/fifo")), "a FIFO or socket of 3 bytes", []check.Kind{check.Tree}},
		{"direct I/O on a link", edit(demo, "UPDATE catalog SET flags = flags | 65536 WHERE "+key(demo+"/bin")), "entry: ", []check.Kind{check.Tree}},
		{"compression unknown", edit(demo, "UPDATE catalog SET flags = flags | (7 << 11) WHERE "+key(demo+"/etc/attr")), "which is unknown", []check.Kind{check.Tree}},
		{"gap between chunks", edit(demo, "UPDATE chunks SET offset = offset + 1 WHERE offset > 0"), "chunks: ", []check.Kind{check.Tree}},
		{"chunks gone", edit(demo, "DELETE FROM chunks"), "chunks: ", []check.Kind{check.Tree}},
		{"chunks of nobody", edit(demo, "INSERT INTO chunks VALUES (1, 2, 0, 5, zeroblob(20))"), "1 chunks belong to no chunked file", []check.Kind{check.Counters}},
		{"xattrs that are none", edit(demo, "UPDATE catalog SET xattr = x'07' WHERE "+key(demo+"/etc/attr")), "cannot be decoded", []check.Kind{check.Tree}},
		{"self counter", edit(demo, "UPDATE statistics SET value = value + 1 WHERE counter = 'self_regular'"), "self_regular is", []check.Kind{check.Counters}},
		{"subtree counter", edit("", "UPDATE statistics SET value = value + 1 WHERE counter = 'subtree_xattr'"), "subtree_xattr is", nil},
		{"counter missing", edit(demo, "DELETE FROM statistics WHERE counter = 'self_special'"), "counter self_special is missing", []check.Kind{check.Counters}},
		{"object gone", func(_ *testing.T, s *testsite.Site) { s.Remove(s.Object(demo, demo+"/etc/attr")) }, "missing: \"/rootfs/demo/1/etc/attr\"", nil},
		{"object damaged", func(_ *testing.T, s *testsite.Site) { corrupt(s, s.Object(demo, demo+"/etc/attr"), 5) }, "content: \"/rootfs/demo/1/etc/attr\"", nil},
		{"object with more behind it", func(_ *testing.T, s *testsite.Site) {
			o := s.Object(demo, demo+"/etc/attr")
			s.Write(o, append(s.Read(o), 0))
		}, "content: \"/rootfs/demo/1/etc/attr\"", nil},
		{"object of another size", edit(demo, "UPDATE catalog SET size = 5 WHERE "+key(demo+"/etc/attr")+"; UPDATE statistics SET value = value + 1 WHERE counter = 'self_file_size'"), "object has the wrong size", []check.Kind{check.Tree, check.Counters}},
		{"chunk damaged", func(_ *testing.T, s *testsite.Site) { corrupt(s, s.Object(demo, demo+"/big"), 100) }, "content: \"/rootfs/demo/1/big\"", nil},
		{"catalog has another owner than the listing", edit(demo, "UPDATE catalog SET uid = 7 WHERE "+key(demo+"/etc/attr")), "catalog and listing disagree: owners 7:0 and 0:0", nil},
		{"catalog has another mode", edit(demo, "UPDATE catalog SET mode = mode | 2048 WHERE "+key(demo+"/etc/attr")), "catalog and listing disagree: modes", nil},
		{"catalog has another time", edit(demo, "UPDATE catalog SET mtimens = 77 WHERE "+key(demo+"/etc/attr")), "catalog and listing disagree: times", nil},
		{"catalog lacks an xattr", edit(demo, "UPDATE catalog SET xattr = NULL WHERE "+key(demo+"/etc/attr"), "UPDATE statistics SET value = value - 1 WHERE counter = 'self_xattr'"), "catalog and listing disagree: xattrs", []check.Kind{check.Counters}},
		{"catalog has another content", func(_ *testing.T, s *testsite.Site) {
			e := s.Row(demo, demo+"/etc/motd")
			s.Edit(demo, fmt.Sprintf("UPDATE catalog SET hash = x'%x', size = %d WHERE %s", e.Hash.Digest, e.Size, key(demo+"/etc/attr")))
		}, "catalog and listing disagree: contents", []check.Kind{check.Counters}},
		{"catalog lacks a file", edit(demo, "DELETE FROM catalog WHERE "+key(demo+"/etc/attr")), "the listing has it, the catalog has not", []check.Kind{check.Counters}},
		{"catalog has a file more", edit(demo, insertCopy(demo+"/etc/attr", demo+"/etc/more")), "which the listing has not", []check.Kind{check.Counters}},
		{"listing of another tree", func(_ *testing.T, s *testsite.Site) {
			path := own(s, "listing")
			e := s.Row(demo, demo+"/etc/attr")
			s.Edit(catalog.Parent(catalog.Parent(path)), fmt.Sprintf("UPDATE catalog SET hash = x'%x', size = %d WHERE %s", e.Hash.Digest, e.Size, key(path)))
		}, "it is not the listing of the tree", []check.Kind{check.Counters}},
		{"no listing", func(_ *testing.T, s *testsite.Site) {
			path := own(s, "listing")
			s.Edit(catalog.Parent(catalog.Parent(path)), "DELETE FROM catalog WHERE "+key(path))
		}, "there is no listing of it", []check.Kind{check.Counters}},
		{"no table", func(_ *testing.T, s *testsite.Site) {
			path := own(s, "objects")
			s.Edit(catalog.Parent(catalog.Parent(path)), "DELETE FROM catalog WHERE "+key(path))
		}, "there is no table of its objects", []check.Kind{check.Counters}},
		{"no table that can be read", func(_ *testing.T, s *testsite.Site) {
			path := own(s, "objects")
			e := s.Row(demo, demo+"/etc/attr")
			s.Edit(catalog.Parent(catalog.Parent(path)), fmt.Sprintf("UPDATE catalog SET hash = x'%x', size = %d WHERE %s", e.Hash.Digest, e.Size, key(path)))
		}, "objects: \"/.rootstock/trees/", []check.Kind{check.Counters}},
		{"number of entries", func(_ *testing.T, s *testsite.Site) {
			for _, mount := range []string{demo, "/rootfs/demo"} {
				s.Edit(mount, "UPDATE catalog SET xattr = CAST(replace(CAST(xattr AS TEXT), 'entries1', 'entries2') AS BLOB) WHERE "+key(demo))
			}
		}, "user.rootstock.entries says", nil},
		{"image's link astray", edit("/registry.example", "UPDATE catalog SET symlink = substr(symlink, 1, length(symlink) - 1) || 'X' WHERE symlink <> ''"), "where no tree is", nil},
		{"channel astray", func(_ *testing.T, s *testsite.Site) {
			s.Edit("/registry.example", "UPDATE catalog SET symlink = substr(symlink, 1, length(symlink) - 1) WHERE symlink <> ''")
		}, "a link of ", []check.Kind{check.Link}},
		{"no description of an image", func(_ *testing.T, s *testsite.Site) {
			dir := imageDir(t, s)
			s.Edit(catalog.Parent(dir), "DELETE FROM catalog WHERE "+key(dir+"/image.json"))
		}, "there is no description of it", []check.Kind{check.Counters}},
		{"description that is no JSON", func(_ *testing.T, s *testsite.Site) {
			dir := imageDir(t, s)
			e := s.Row(demo, demo+"/etc/attr")
			s.Edit(catalog.Parent(dir), fmt.Sprintf("UPDATE catalog SET hash = x'%x', size = %d WHERE %s", e.Hash.Digest, e.Size, key(dir+"/image.json")))
		}, "image: \"/.rootstock/images/", []check.Kind{check.Counters}},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := whole.Clone(t)
			b.do(t, s)
			o := options(s)
			// Reading all of it each time would take most of the time.
			o.NoContent = !strings.Contains(b.want, "content:") && !strings.Contains(b.want, "wrong size")
			found, r := run(t, o)
			if r.Clean() {
				t.Fatal("nothing was found")
			}
			kind := check.Kind("")
			for _, f := range found {
				if strings.Contains(f.String(), b.want) {
					kind = f.Kind
				}
			}
			if kind == "" {
				t.Fatalf("no finding like %q among %v", b.want, found)
			}
			for _, f := range found {
				if !f.Warning && f.Kind != kind && !slices.Contains(b.also, f.Kind) {
					t.Errorf("besides: %v", f)
				}
			}
		})
	}
}

func keyValues(path string) string {
	k := catalog.KeyOf(path)
	return fmt.Sprintf("%d, %d", k.A, k.B)
}

// insertCopy is SQL that copies a row to another path.
func insertCopy(from, to string) string {
	p := catalog.KeyOf(catalog.Parent(to))
	return fmt.Sprintf(`INSERT INTO catalog SELECT %s, %d, %d, hardlinks, hash, size, mode, mtime, mtimens, flags, '%s', symlink, uid, gid, xattr FROM catalog WHERE %s`,
		keyValues(to), p.A, p.B, to[strings.LastIndexByte(to, '/')+1:], key(from))
}

// storedLevel0 is a zlib stream that another encoder made.
func storedLevel0(plain []byte) []byte {
	var b bytes.Buffer
	w, _ := zlib.NewWriterLevel(&b, zlib.NoCompression)
	w.Write(plain)
	w.Close()
	return b.Bytes()
}

// imageDir is where the description of the sample's image lies.
func imageDir(t *testing.T, s *testsite.Site) string {
	t.Helper()
	link := s.Row("/registry.example", "/registry.example/app:v1").Symlink
	return "/.rootstock/images/" + strings.TrimPrefix(link, "../.flat/")
}
