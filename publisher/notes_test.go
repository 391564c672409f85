package publisher_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

const status = "Package: openssl\nVersion: 3.0.2-0ubuntu1.17\nArchitecture: amd64\nStatus: install ok installed\n"

// reader opens the repository as it is now.
func (s *site) reader() *publisher.Reader {
	s.t.Helper()
	r, err := publisher.OpenReader(s.t.Context(), s.o.Store, s.t.TempDir())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.Close() })
	return r
}

// purls are the packages noted of a tree.
func (s *site) purls(tree string) []string {
	s.t.Helper()
	b, err := s.reader().Note(s.t.Context(), tree, publisher.PackagesNote, inventory.MaxDocument)
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := inventory.Decode(bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	if v.Tree != tree {
		s.t.Errorf("the notes of tree %s are about %s", tree, v.Tree)
	}
	all := []string{}
	for _, p := range v.Packages {
		all = append(all, p.PURL)
	}
	return all
}

const openssl = "pkg:deb/debian/openssl@3.0.2-0ubuntu1.17?arch=amd64"

func TestPublishNotesPackages(t *testing.T) {
	s := newSite(t)
	r := s.mustPublish("rootfs/demo@1", rootfs(t, "var/lib/dpkg/status="+status))
	if got := s.purls(r.Tree); !slices.Equal(got, []string{openssl}) {
		t.Errorf("packages: %q", got)
	}
	for _, name := range []string{publisher.SPDXNote, publisher.CycloneDXNote} {
		b, err := s.reader().Note(t.Context(), r.Tree, name, 1<<20)
		if err != nil || !bytes.Contains(b, []byte("3.0.2-0ubuntu1.17")) {
			t.Errorf("%s: %v, %.100s", name, err, b)
		}
		if _, err := s.reader().Note(t.Context(), r.Tree, name, 10); err == nil {
			t.Errorf("%s is read beyond the limit", name)
		}
	}
	// The same tree under another version is noted once.
	again := s.mustPublish("rootfs/demo@2", rootfs(t, "var/lib/dpkg/status="+status))
	if again.Tree != r.Tree || again.Unchanged {
		t.Errorf("%+v", again)
	}
	if _, err := s.reader().Note(t.Context(), r.Tree, "profiles", 10); !errors.Is(err, publisher.ErrNoNote) {
		t.Errorf("a note that is not there: %v", err)
	}
	if _, err := s.reader().Note(t.Context(), "x", publisher.PackagesNote, 10); err == nil {
		t.Errorf("the notes of no tree: %v", err)
	}
}

// A database that gets its name through a hard link is read although no reader
// wanted the name it came under.
func TestPublishNotesLinkedFiles(t *testing.T) {
	s := newSite(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "srv/copy", Mode: 0o644, Size: int64(len(status)), Typeflag: tar.TypeReg},
		{Name: "var/lib/dpkg/status", Linkname: "srv/copy", Typeflag: tar.TypeLink},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(status)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := s.mustPublish("rootfs/demo@1", rawRootfs(t, b.Bytes()))
	if got := s.purls(r.Tree); !slices.Equal(got, []string{openssl}) {
		t.Errorf("packages: %q", got)
	}
}

// Trees published without notes get the very same ones later.
func TestBackfill(t *testing.T) {
	s := newSite(t)
	big := strings.Repeat("Package: p\nVersion: 1\n\n", 200_000) // more than one chunk
	one := s.mustPublish("rootfs/demo@1", rootfs(t, "var/lib/dpkg/status="+status))
	two := s.mustPublish("rootfs/demo@2", rootfs(t, "lib/apk/db/installed=P:musl\nV:1\n", "var/lib/dpkg/status="+big))
	before := map[string][]string{one.Tree: s.purls(one.Tree), two.Tree: s.purls(two.Tree)}
	documents := s.documents(one.Tree)
	s.forgetNotes()
	if _, err := s.reader().Note(t.Context(), one.Tree, publisher.PackagesNote, 1<<20); !errors.Is(err, publisher.ErrNoNote) {
		t.Fatalf("the notes are still there: %v", err)
	}
	p, err := publisher.Open(t.Context(), s.o)
	if err != nil {
		t.Fatal(err)
	}
	all := func(publisher.Listed) bool { return true }
	done, err := p.Backfill(t.Context(), func(l publisher.Listed) bool { return l.Reference.Version == "1" })
	if err != nil || !slices.Equal(done.Trees, []string{one.Tree}) {
		t.Fatalf("%+v, %v", done, err)
	}
	if done, err = p.Backfill(t.Context(), all); err != nil || !slices.Equal(done.Trees, []string{two.Tree}) {
		t.Fatalf("%+v, %v", done, err)
	}
	for tree, want := range before {
		if got := s.purls(tree); !slices.Equal(got, want) || len(got) == 0 {
			t.Errorf("tree %s: %q, want %q", tree, got, want)
		}
	}
	for name, want := range documents {
		if got := s.documents(one.Tree)[name]; !bytes.Equal(got, want) {
			t.Errorf("%s differs from the one made when publishing", name)
		}
	}
	last := done.Revision
	if done, err = p.Backfill(t.Context(), all); err != nil || len(done.Trees) != 0 || done.Revision != last {
		t.Errorf("with nothing missing: %+v, %v", done, err)
	}
}

func (s *site) documents(tree string) map[string][]byte {
	s.t.Helper()
	all := map[string][]byte{}
	for _, name := range []string{publisher.PackagesNote, publisher.SPDXNote, publisher.CycloneDXNote} {
		b, err := s.reader().Note(s.t.Context(), tree, name, 64<<20)
		if err != nil {
			s.t.Fatal(err)
		}
		all[name] = b
	}
	return all
}

func TestFind(t *testing.T) {
	s := newSite(t)
	for _, v := range []string{"10", "9"} {
		s.mustPublish("rootfs/demo@"+v, rootfs(t, "a="+v))
	}
	s.channel("rootfs", "demo", "stable", "10")
	for text, want := range map[string]string{
		"rootfs/demo": "9", "rootfs/demo@10": "10", "rootfs/demo:stable": "10", "cvmfs://" + fqrn + "/rootfs/demo@9": "9",
		"rootfs/demo@11": "", "rootfs/other": "", "rootfs/demo:gone": "", "cvmfs://other.example.org/rootfs/demo": "", "dirs/demo": "",
	} {
		ref, err := reference.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		l, err := s.reader().Find(t.Context(), ref)
		if want == "" && !errors.Is(err, publisher.ErrNotFound) || want != "" && err != nil || l.Reference.Version != want {
			t.Errorf("%s: %s, %v; want %q", text, l.Reference, err, want)
		}
	}
	channels, err := s.reader().Channels(t.Context())
	if err != nil || len(channels) != 1 || channels[0].Reference.String() != "rootfs/demo:stable" || channels[0].Version != "10" {
		t.Errorf("channels: %v, %v", channels, err)
	}
}

// forgetNotes makes the repository one of before notes were taken.
func (s *site) forgetNotes() {
	s.t.Helper()
	if err := publisher.Edit(s.t.Context(), s.o, "/.rootstock/notes", "", ""); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) channel(kind, name, channel, version string) {
	s.t.Helper()
	at, target := "/channels/"+kind+"/"+name+"/"+channel, "../../../"+kind+"/"+name+"/"+version
	if err := publisher.Edit(s.t.Context(), s.o, "", at, target); err != nil {
		s.t.Fatal(err)
	}
}

// rawRootfs is a source of a tar made by hand.
func rawRootfs(t *testing.T, b []byte) *source.Source {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rootfs.tar")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := source.OpenRootfs(t.Context(), file, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return src
}
