package publisher_test

import (
	"archive/zip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// buildpackZip writes files, name and text in turns, as a zip; backwards, if
// told so.
func buildpackZip(t *testing.T, backwards bool, files ...string) *source.Source {
	t.Helper()
	name := filepath.Join(t.TempDir(), "bp.zip")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	for i := 0; i < len(files); i += 2 {
		at := i
		if backwards {
			at = len(files) - 2 - i
		}
		h := &zip.FileHeader{Name: files[at], Method: zip.Deflate, Modified: time.Unix(1_700_000_000, 0).UTC()}
		if backwards {
			h.Method = zip.Store
		}
		h.SetMode(0o755)
		out, cerr := w.CreateHeader(h)
		if cerr == nil {
			_, cerr = io.WriteString(out, files[at+1])
		}
		err = errors.Join(err, cerr)
	}
	if err := errors.Join(err, w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := source.OpenBuildpack(t.Context(), name, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// The same files in a zip of another order and compression, published with
// other workers into another repository, are the same tree.
func TestBuildpackIsOneTree(t *testing.T) {
	files := []string{
		"bin/detect", "#!", "lib/.wh.x", "a name", "VERSION", "1.0\n", "big", strings.Repeat("0123456789", 100_000),
		"manifest.yml", "language: ruby\ndependencies:\n- {name: ruby, version: 3.3.1}\n",
	}
	var trees []string
	for i, workers := range []int{1, 4} {
		s := newSite(t)
		s.o.Workers = workers
		r, err := s.publish("buildpacks/ruby@1.0", buildpackZip(t, i > 0, files...))
		if err != nil {
			t.Fatal(err)
		}
		if r.Path != "/buildpacks/ruby/1.0" || len(r.Notes) > 0 {
			t.Errorf("%+v", r)
		}
		trees = append(trees, r.Tree)
		reader, err := publisher.OpenReader(t.Context(), s.o.Store, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		listed, err := reader.Find(t.Context(), r.Reference)
		if err != nil {
			t.Fatal(err)
		}
		names, err := reader.Names(t.Context(), listed, "lib")
		if err != nil || strings.Join(names, " ") != ".wh.x" {
			t.Errorf("lib/ holds %q, %v", names, err)
		}
		if top, err := reader.Names(t.Context(), listed, ""); err != nil || len(top) != 5 {
			t.Errorf("at the top %q, %v", top, err)
		}
		if none, err := reader.Names(t.Context(), listed, "bin/detect"); err != nil || len(none) > 0 {
			t.Errorf("in a file %q, %v", none, err)
		}
		if b, err := reader.File(t.Context(), listed, "VERSION", 10); err != nil || string(b) != "1.0\n" {
			t.Errorf("VERSION %q, %v", b, err)
		}
		if _, err := reader.File(t.Context(), listed, "bin/none", 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a file that is not there: %v", err)
		}
		if b, err := reader.Note(t.Context(), r.Tree, publisher.PackagesNote, 1<<20); err != nil || !strings.Contains(string(b), `"3.3.1"`) {
			t.Errorf("packages %s, %v", b, err)
		}
	}
	if trees[0] != trees[1] {
		t.Errorf("trees %q", trees)
	}
}

// A receipt is a note of its tree, and nothing of the tree.
func TestReceipt(t *testing.T) {
	s := newSite(t)
	src := rootfs(t, "etc/motd", "hello")
	src.Receipt = []byte("ii  bash\n")
	src.Notes = []string{"took it along"}
	r, err := s.publish("rootfs/a@1", src)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Notes) != 1 {
		t.Errorf("notes %q", r.Notes)
	}
	plain, err := s.publish("rootfs/b@1", rootfs(t, "etc/motd", "hello"))
	if err != nil || plain.Tree != r.Tree {
		t.Errorf("%+v, %v: another tree", plain, err)
	}
	reader, err := publisher.OpenReader(t.Context(), s.o.Store, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if b, err := reader.Note(t.Context(), r.Tree, publisher.ReceiptNote, 100); err != nil || string(b) != "ii  bash\n" {
		t.Errorf("%q, %v", b, err)
	}
}
