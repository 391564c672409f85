package droplets_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell/droplets"
	"github.com/rootstock-cf/rootstock/inventory"
)

func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

func open(t *testing.T) (*droplets.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "droplets")
	s, err := droplets.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestStore(t *testing.T) {
	s, dir := open(t)
	file, known, err := s.Path(digest(1))
	if err != nil || known || filepath.Dir(file) != dir {
		t.Fatalf("%s, %v, %v", file, known, err)
	}
	if _, err := s.Read(digest(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	v := inventory.Inventory{Tree: digest(1), Packages: []inventory.Package{{Ecosystem: inventory.NPM, Name: "a", Version: "1"}}}
	if err := droplets.Write(file, v); err != nil {
		t.Fatal(err)
	}
	if _, known, _ := s.Path(digest(1)); !known {
		t.Error("it is not known")
	}
	if b, err := s.Read(digest(1)); err != nil || !strings.Contains(string(b), `"name": "a"`) {
		t.Errorf("%s, %v", b, err)
	}
	// One that lies under another's name is not handed out, nor is what is
	// no document.
	second, _, _ := s.Path(digest(2))
	for _, text := range []string{"", "x", "{}"} {
		if err := os.WriteFile(second, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(digest(2)); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := errors.Join(os.Remove(second), os.Link(file, second)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(digest(2)); !errors.Is(err, inventory.ErrInvalid) {
		t.Errorf("another's: %v", err)
	}
	for _, bad := range []string{"", "../../etc/passwd", "sha256:..", "files:" + strings.Repeat("/", 64)} {
		if _, _, err := s.Path(bad); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// What is kept is bounded; the oldest goes, but not what is used.
func TestTrim(t *testing.T) {
	s, dir := open(t)
	for i := range 1030 {
		file, _, err := s.Path(digest(i))
		if err == nil {
			err = os.WriteFile(file, nil, 0o600)
		}
		if err == nil {
			when := time.Unix(1_700_000_000+int64(i), 0)
			err = os.Chtimes(file, when, when)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Trim(map[string]bool{digest(0): true}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1024 {
		t.Errorf("%d are left, %v", len(left), err)
	}
	for n, want := range map[int]bool{0: true, 1: false, 6: false, 7: true, 1029: true} {
		if _, known, _ := s.Path(digest(n)); known != want {
			t.Errorf("%d is there: %v", n, known)
		}
	}
}

// A list beyond the bound is kept as one that says so.
func TestTooManyPackages(t *testing.T) {
	s, _ := open(t)
	v := inventory.Inventory{Tree: digest(1)}
	license := strings.Repeat("x", 1<<20)
	for i := range 33 {
		v.Packages = append(v.Packages, inventory.Package{Ecosystem: inventory.NPM, Name: fmt.Sprint(i), Version: "1", License: license})
	}
	file, _, _ := s.Path(digest(1))
	if err := droplets.Write(file, v); err != nil {
		t.Fatal(err)
	}
	b, err := s.Read(digest(1))
	if err != nil {
		t.Fatal(err)
	}
	got, err := inventory.Decode(bytes.NewReader(b))
	if err != nil || len(got.Packages) != 0 || len(got.NotRead) != 1 {
		t.Errorf("%d packages, %v, %v", len(got.Packages), got.NotRead, err)
	}
}

// What passes is read if it is what its digest says; writes go through whatever
// it is.
func TestReader(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := `{"name":"bcrypt","version":"4.0.1"}`
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "app/node_modules/bcrypt/package.json", Mode: 0o644, Size: int64(len(text))}), second(w.Write([]byte(text))), w.Close()); err != nil {
		t.Fatal(err)
	}
	layer := append(b.Bytes(), make([]byte, 1<<20)...) // padding
	right := fmt.Sprintf("sha256:%x", sha256.Sum256(layer))
	for name, one := range map[string]struct {
		digest string
		bytes  []byte
		ok     bool
	}{
		"right":        {right, layer, true},
		"cut short":    {right, layer[:len(layer)-1], false},
		"another":      {digest(1), layer, false},
		"no layer":     {fmt.Sprintf("sha256:%x", sha256.Sum256(make([]byte, 9999))), bytes.Repeat([]byte("x"), 1<<20), false},
		"not one byte": {right, nil, false},
	} {
		r := droplets.NewReader(t.Context(), one.digest)
		for part := one.bytes; len(part) > 0; part = part[min(len(part), 1000):] {
			if n, err := r.Write(part[:min(len(part), 1000)]); err != nil || n == 0 {
				t.Fatalf("%s: %d, %v", name, n, err)
			}
		}
		v, ok := r.Close()
		if ok != one.ok || ok && (len(v.Packages) != 1 || v.Tree != right) {
			t.Errorf("%s: %v, %+v", name, ok, v)
		}
	}
}

func second(_ int, err error) error { return err }
