package thintar_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/thintar"
)

func ref(t *testing.T, text string) reference.Reference {
	t.Helper()
	r, err := reference.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// scan is what rep does with a preloaded root file system: it loops for ever
// where this fails (docs/garden.md 1).
func scan(path string) (version string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if err != nil {
			return "", err
		}
		if strings.TrimPrefix(h.Name, ".") == "/etc/stack-version" {
			text, err := io.ReadAll(t)
			return string(text), err
		}
	}
}

func TestRepsScanAndBack(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for text, want := range map[string]struct{ version, tree string }{
		"cvmfs://r.example.org/rootfs/cflinuxfs4:stable": {"stable\n", ""},
		"cvmfs://r.example.org/rootfs/cflinuxfs4@1.2":    {"1.2\n", id},
		"cvmfs://r.example.org/rootfs/cflinuxfs5":        {"newest\n", ""},
	} {
		path := filepath.Join(t.TempDir(), "stack.tar")
		d := thintar.Descriptor{Ref: ref(t, text), Tree: want.tree}
		if err := thintar.WriteFile(path, d); err != nil {
			t.Fatal(err)
		}
		if got, err := scan(path); err != nil || got != want.version {
			t.Errorf("%s: rep reads %q, %v", text, got, err)
		}
		if got, err := thintar.ReadFile(path); err != nil || got != d {
			t.Errorf("%s: read back %+v, %v", text, got, err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 || st.Size() > 16<<10 {
			t.Errorf("%s: %v, %v", text, st, err)
		}
	}
}

// Nothing that rep would take for a stack lies beside the file, and one that
// says the same is not replaced.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.tar")
	stable := thintar.Descriptor{Ref: ref(t, "cvmfs://r.example.org/rootfs/s:stable")}
	inode := func() uint64 {
		var st unix.Stat_t
		if err := errors.Join(thintar.WriteFile(path, stable), unix.Stat(path, &st)); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	if a, b := inode(), inode(); a != b {
		t.Error("an unchanged thin tar was written again")
	}
	stable.Ref.Channel = "edge"
	inode()
	if got, err := thintar.ReadFile(path); err != nil || got != stable {
		t.Errorf("after a change: %+v, %v", got, err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("left beside it: %v, %v", all, err)
	}
	for name, d := range map[string]thintar.Descriptor{
		"no repository": {Ref: ref(t, "rootfs/s")},
		"a path":        {Ref: ref(t, "cvmfs://r.example.org/-/x")},
		"a tree":        {Ref: stable.Ref, Tree: "xyz"},
		"nothing":       {},
	} {
		if err := thintar.WriteFile(path, d); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func archive(t *testing.T, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		h := &tar.Header{Name: entries[i], Mode: 0o644, Size: int64(len(entries[i+1]))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, entries[i+1])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	many := make([]string, 0, 60)
	for range 20 {
		many = append(many, "./etc/passwd", "x")
	}
	many = append(many, "./etc/rootstock.json", `{"format":1,"reference":"cvmfs://r.example.org/rootfs/s"}`)
	for name, text := range map[string][]byte{
		"empty": nil, "text": []byte("not a tar"), "rootfs": archive(t, "./etc/stack-version", "1"),
		"big": make([]byte, 1<<20), "many": archive(t, many...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"empty", "text", "rootfs", "big", "many", "fifo", "."} {
		if d, err := thintar.ReadFile(filepath.Join(dir, name)); !errors.Is(err, thintar.ErrNone) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	if _, err := thintar.ReadFile(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestDescriptorsRefused(t *testing.T) {
	for doc, says := range map[string]string{
		`{"format":2,"reference":"cvmfs://r.example.org/rootfs/s"}`:            "rootstock thin-tar",
		`{"format":1,"reference":"rootfs/s"}`:                                  "names a repository",
		`{"format":1,"reference":"cvmfs://r.example.org/-/etc"}`:               "names a repository",
		`{"format":1,"reference":"cvmfs://r.example.org/rootfs/../s"}`:         "invalid reference",
		`{"format":1,"reference":"cvmfs://r.example.org/rootfs/s","tree":"x"}`: "64 hex",
		`{"format":1,"reference":"cvmfs://r.example.org/rootfs/s","more":1}`:   "more",
		`{"format":1}`: "",
		`[]`:           "",
	} {
		_, err := thintar.Read(bytes.NewReader(archive(t, "./etc/rootstock.json", doc)))
		if err == nil || errors.Is(err, thintar.ErrNone) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", doc, err)
		}
	}
}
