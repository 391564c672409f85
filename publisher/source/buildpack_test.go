package source_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/publisher/source/zipfile"
)

// zipFile writes a zip of name, mode and text in turns.
func zipFile(t testing.TB, entries ...any) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(entries); i += 3 {
		h := &zip.FileHeader{Name: entries[i].(string), Method: zip.Deflate}
		if mode := entries[i+1].(fs.FileMode); mode != 0 {
			h.SetMode(mode)
		}
		f, err := w.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(f, entries[i+2].(string))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "bp.zip")
	if err := errors.Join(w.Close(), os.WriteFile(file, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	return file
}

// listTar describes the entries of a tar.
func listTar(t testing.TB, b []byte) (lines []string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%c %s %o %d:%d %q %s", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, h.Linkname, text))
	}
}

func TestBuildpack(t *testing.T) {
	file := zipFile(t,
		"bin/detect", fs.FileMode(0o755), "#!",
		"bin/compile", 0o777|fs.ModeSymlink, "detect",
		"VERSION", fs.FileMode(0o644), "1.2.3\n",
		"manifest.yml", fs.FileMode(0o644), "---\nlanguage: ruby\n",
		"lib/.wh.x", fs.FileMode(0o600), "",
	)
	s, err := source.OpenBuildpack(context.Background(), file, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if s.Kind != source.KindBuildpack || s.Digest != digest(b) || s.Name != "ruby" || s.Version != "1.2.3" || len(s.Notes) > 0 {
		t.Errorf("%+v", s)
	}
	want := []string{
		`0 bin/detect 755 0:0 "" #!`,
		`2 bin/compile 777 0:0 "detect" `,
		"0 VERSION 644 0:0 \"\" 1.2.3\n",
		"0 manifest.yml 644 0:0 \"\" ---\nlanguage: ruby\n",
		`0 lib/.wh.x 600 0:0 "" `,
	}
	var first []byte
	for range 2 {
		b, err := readLayer(s.Layers[0])
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, listTar(t, b)); d != "" {
			t.Error(d)
		}
		if first != nil && !bytes.Equal(b, first) {
			t.Error("two readings differ")
		}
		first = b
	}
	if s.Layers[0].DiffID() != digest(first) {
		t.Error("diff id is not the tar's")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A buildpack without VERSION or manifest.yml, or whose are no such files, has
// to be named; and one without permissions is published with a note.
func TestBuildpackThatSaysNothing(t *testing.T) {
	for name, file := range map[string]string{
		"neither": zipFile(t, "bin/detect", fs.FileMode(0), "#!"),
		"others": zipFile(t, "VERSION/x", fs.FileMode(0o644), "1", "manifest.yml", fs.FileMode(0o644), "language: [a",
			"bin/detect", fs.FileMode(0), "#!"),
		"large": zipFile(t, "VERSION", fs.FileMode(0o644), strings.Repeat("1", 5000), "bin/detect", fs.FileMode(0), "#!"),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := source.OpenBuildpack(context.Background(), file, source.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close() //nolint:errcheck // only read from
			if s.Name != "" || s.Version != "" {
				t.Errorf("%q %q", s.Name, s.Version)
			}
			if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "1 of the zip's") {
				t.Errorf("notes %q", s.Notes)
			}
		})
	}
}

func TestBuildpackFailures(t *testing.T) {
	good := zipFile(t, "a", fs.FileMode(0o644), strings.Repeat("x", 1000))
	for name, c := range map[string]struct {
		file string
		o    source.Options
		want error
	}{
		"missing": {filepath.Join(t.TempDir(), "no"), source.Options{}, source.ErrNotFound},
		"dir":     {t.TempDir(), source.Options{}, source.ErrUnsupported},
		"hostile": {zipFile(t, "../a", fs.FileMode(0o644), ""), source.Options{}, zipfile.ErrHostile},
		"large":   {good, source.Options{MaxBytes: 999}, zipfile.ErrTooLarge},
	} {
		if _, err := source.OpenBuildpack(context.Background(), c.file, c.o); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.file) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := source.OpenBuildpack(context.Background(), good, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // only read from
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(good, append(b, 0), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readLayer(s.Layers[0]); !errors.Is(err, source.ErrDigest) {
		t.Errorf("a zip that changed: %v", err)
	}
	// A reading that is given up ends.
	in, err := s.Layers[0].Open(context.Background())
	if err == nil {
		err = in.Close()
	}
	if err != nil {
		t.Error(err)
	}
}
