package client_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// Where data/ is closed to the public, root objects lie under their alternative
// names (CVMFS-FORMAT 1.3), and are what they are by their hash there, too.
func TestAlternativePaths(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	repo.Tag("v1")
	m := repo.Head()
	m.AltPaths = true
	m.Metainfo = repo.PutObject(object.Zlib, object.Metainfo, []byte(`{"description":"x"}`))
	repo.Sign(m)
	objects := map[object.Type]object.Hash{
		object.Catalog: m.RootCatalog, object.Certificate: m.Certificate, object.History: m.History, object.Metainfo: m.Metainfo,
	}
	for typ, h := range objects {
		name := object.Path(h, typ)
		repo.Put(".cvmfsalt-"+h.String()+string(rune(typ)), repo.Get(name))
		repo.Remove(name)
	}
	o := clientOf(t, repo)
	o.Tag = "v1"
	r := openRepository(t, o)
	if got := readPath(t, r, "/f"); got != "one" {
		t.Errorf("%q", got)
	}
	if got := mustXAttr(t, r, r.Root(), "user.repo_metainfo"); got != `{"description":"x"}` {
		t.Errorf("metainfo %q", got)
	}
	for _, typ := range []object.Type{object.Catalog, object.Certificate, object.History} {
		name := ".cvmfsalt-" + objects[typ].String() + string(rune(typ))
		sound := repo.Get(name)
		damaged := append([]byte(nil), sound...)
		damaged[len(damaged)-1] ^= 1
		repo.Put(name, damaged)
		o := clientOf(t, repo)
		o.Tag = "v1"
		if r, err := client.Open(t.Context(), o); err == nil {
			t.Errorf("a damaged %s is taken", typ)
			r.Close()
		}
		repo.Put(name, sound)
	}
}

// What is kept of an older revision than was seen, say from a backup, is no
// revision to start from without a server.
func TestSavedIsOlderThanSeen(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	o := clientOf(t, repo)
	readPath(t, openRepository(t, o), "/f")
	seen := repo.Head().Mark()
	seen.Revision++
	crumb := filepath.Join(o.Cache.Dir(), "state", repo.Name, "cvmfschecksum."+repo.Name)
	if err := os.WriteFile(crumb, []byte(seen.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	repo.Fault("", down)
	if r, err := client.Open(t.Context(), o); !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("starts from revision 1 after 2 was seen: %v", err)
		if err == nil {
			r.Close()
		}
	}
}

// A certificate that is withdrawn while no server can be reached is withdrawn
// for whoever started without one.
func TestBlacklistedWithoutServer(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("one")})
	var b blacklist
	o := clientOf(t, repo)
	o.Blacklist = b.read
	readPath(t, openRepository(t, o), "/f")
	repo.Fault("", down)
	r := openRepository(t, o)
	if err := r.Trusted(); err != nil || !r.Status().Offline {
		t.Fatalf("%v, %+v", err, r.Status())
	}
	b.set(manifest.FormatFingerprint(object.SHA1.Sum(repo.CertificateDER())) + "\n")
	if _, err := r.Refresh(t.Context()); err == nil || !errors.Is(r.Trusted(), manifest.ErrBlacklisted) {
		t.Errorf("%v, %v", err, r.Trusted())
	}
}
