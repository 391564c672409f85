package source_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher/source"
)

// size of the file that is being read when something happens: more than all
// buffers on the way.
const slow = 8 << 20

// A directory that changes while it is read is an error with the name of what
// changed.
func TestDirChanges(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"nothing": {func(string) error { return nil }, ""},
		"written": {func(d string) error { return appendTo(d+"/d/2 slow", "x") }, `"d/2 slow": it changed`},
		"overwritten": {func(d string) error {
			f, err := os.OpenFile(d+"/d/2 slow", os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("y"), slow-1)
				err = errors.Join(err, f.Close())
			}
			return err
		}, `"d/2 slow": it changed`},
		"overwritten in secret": {func(d string) error {
			st, err := os.Stat(d + "/d/2 slow")
			if err == nil {
				err = os.WriteFile(d+"/d/2 slow", bytes.Repeat([]byte("y"), slow), 0)
			}
			return errors.Join(err, os.Chtimes(d+"/d/2 slow", st.ModTime(), st.ModTime()))
		}, `"d/2 slow": it changed`},
		"truncated":          {func(d string) error { return os.Truncate(d+"/d/2 slow", 10) }, `"d/2 slow": it changed`},
		"mode":               {func(d string) error { return os.Chmod(d+"/d/2 slow", 0o600) }, `"d/2 slow": it changed`},
		"removed":            {func(d string) error { return os.Remove(d + "/d/3") }, `"d/3": it changed`},
		"added":              {func(d string) error { return os.WriteFile(d+"/d/1 new", nil, 0o600) }, `"d": it changed`},
		"added above":        {func(d string) error { return os.Mkdir(d+"/0", 0o755) }, "it changed"},
		"other name written": {func(d string) error { return appendTo(d+"/d/1", "x") }, `"d/4", another name of "d/1": it changed`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := errors.Join(os.Mkdir(dir+"/d", 0o755), os.WriteFile(dir+"/d/1", []byte("x"), 0o644),
				os.WriteFile(dir+"/d/2 slow", bytes.Repeat([]byte("x"), slow), 0o644), os.WriteFile(dir+"/d/3", nil, 0o644),
				os.Link(dir+"/d/1", dir+"/d/4")); err != nil {
				t.Fatal(err)
			}
			s, err := source.OpenDir(context.Background(), dir, source.Options{})
			if err != nil {
				t.Fatal(err)
			}
			in, err := s.Layers[0].Open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			r := tar.NewReader(in)
			for h := new(tar.Header); err == nil && h.Name != "d/2 slow"; {
				h, err = r.Next()
			}
			if err = errors.Join(err, c.change(dir)); err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, in)
			if cerr := in.Close(); err == nil && cerr != nil {
				t.Errorf("only Close fails: %v", cerr)
			}
			if c.want == "" {
				if err != nil || !strings.HasPrefix(s.Digest, "sha256:") || s.Digest != s.Layers[0].DiffID() {
					t.Errorf("%v, digest %s", err, s.Digest)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

// The same directory is the same tar, whatever order its names were made in; no
// link of it is followed.
func TestDirIsDeterministic(t *testing.T) {
	var digests []string
	for _, names := range [][]string{{"a", "b", "c"}, {"c", "a", "b"}} {
		dir := t.TempDir()
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("/", filepath.Join(dir, "out")); err != nil {
			t.Fatal(err)
		}
		tool(t, "touch", "-hd", "@1700000000", dir+"/a", dir+"/b", dir+"/c", dir+"/out", dir)
		s, err := source.OpenDir(context.Background(), dir, source.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := readLayer(s.Layers[0])
		if err != nil {
			t.Fatal(err)
		}
		if lines := listTar(t, b); len(lines) != 5 || !strings.Contains(lines[4], `"/"`) {
			t.Errorf("%q", lines)
		}
		digests = append(digests, s.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("%q", digests)
	}
}

func TestDirFailures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, make([]byte, 100), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := source.OpenDir(context.Background(), file+"x", source.Options{}); !errors.Is(err, source.ErrNotFound) {
		t.Error(err)
	}
	if _, err := source.OpenDir(context.Background(), file, source.Options{}); !errors.Is(err, source.ErrUnsupported) {
		t.Error(err)
	}
	s, err := source.OpenDir(context.Background(), filepath.Dir(file), source.Options{MaxBytes: 99})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readLayer(s.Layers[0]); !errors.Is(err, source.ErrTooLarge) {
		t.Error(err)
	}
}
