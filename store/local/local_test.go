package local_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
	"github.com/rootstock-cf/rootstock/store/storetest"
)

func create(t testing.TB, dir string) *local.Store {
	t.Helper()
	s, err := local.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, s)
	return s
}

func reopen(t testing.TB, dir string) *local.Store {
	t.Helper()
	s, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, s)
	return s
}

func closeLater(t testing.TB, s *local.Store) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func put(t testing.TB, s *local.Store, content string) (name string) {
	t.Helper()
	name = object.Path(object.SHAKE128.Sum([]byte(content)), object.Bulk)
	if err := s.Put(t.Context(), name, []byte(content)); err != nil {
		t.Fatal(err)
	}
	return name
}

func sync(t testing.TB, s *local.Store) {
	t.Helper()
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func has(t testing.TB, s *local.Store, name string) bool {
	t.Helper()
	_, ok, err := s.Has(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return create(t, t.TempDir()) })
}

// A directory whose data lies on another disk is a repository like others.
func TestContractOtherFileSystem(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		dir := t.TempDir()
		mountTmpfs(t, filepath.Join(dir, "data"), "size=256m")
		return create(t, dir)
	})
}

func mountTmpfs(t testing.TB, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); errors.Is(err, unix.EPERM) {
		t.Skipf("SKIPPED, behaviour on another or a full file system is not tested: mounting a tmpfs needs root (%v)", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// CVMFS-FORMAT 1.1, and what a web server needs to read it, whatever the umask.
func TestLayout(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir := filepath.Join(t.TempDir(), "srv", "cvmfs")
	s := create(t, dir)
	for _, sub := range []string{"data/00", "data/7f", "data/ff", "data/txn"} {
		if info, err := os.Stat(filepath.Join(dir, sub)); err != nil || info.Mode() != fs.ModeDir|0o755 {
			t.Errorf("%s: %v, %v", sub, info, err)
		}
	}
	syscall.Umask(0o077)
	names := []string{put(t, s, "object"), ".cvmfswhitelist", ".cvmfspublished"}
	if err := s.Put(t.Context(), ".cvmfswhitelist", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Swap(t.Context(), ".cvmfspublished", nil, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries { // what the web must not show is not readable for its server
		if info, err := e.Info(); err != nil || strings.HasPrefix(e.Name(), ".rootstock") && info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "data/txn")); err != nil || len(left) != 0 {
		t.Errorf("left in data/txn: %v, %v", left, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		files []string
		want  error
	}{
		"empty":           {nil, nil},
		"a new disk":      {[]string{"lost+found/x"}, nil},
		"interrupted":     {[]string{"data/00/x", "data/txn/y", ".rootstock.lock"}, nil},
		"a repository":    {[]string{"data/00/x", ".cvmfspublished"}, fs.ErrExist},
		"somebody's home": {[]string{"Documents/thesis.tex"}, fs.ErrExist},
	} {
		dir := t.TempDir()
		for _, f := range tc.files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := local.Create(dir)
		if !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if err == nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		} else if _, err := os.Stat(filepath.Join(dir, "data/txn")); err == nil {
			t.Errorf("%s: refused, yet made directories", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "none"), file} {
		_, err := local.Open(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "init") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Git and some copies leave out empty directories.
func TestPutMakesDirectories(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := reopen(t, dir)
	name := put(t, s, "object")
	if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != "object" {
		t.Errorf("%q, %v", b, err)
	}
}

// An object whose size gives it away is replaced at once.
func TestPutReplacesDamage(t *testing.T) {
	dir := t.TempDir()
	s := create(t, dir)
	name := put(t, s, "object")
	if err := os.Truncate(filepath.Join(dir, name), 0); err != nil {
		t.Fatal(err)
	}
	put(t, s, "object")
	if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != "object" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	mountTmpfs(t, dir, "size=2m")
	s := create(t, dir)
	small := put(t, s, "small")
	big := make([]byte, 3<<20)
	name := object.Path(object.SHAKE128.Sum(big), object.Bulk)
	draft, err := s.Draft(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	_, werr := draft.Write(big)
	if err := draft.Close(); err != nil {
		t.Error(err)
	}
	for op, err := range map[string]error{
		"Draft":      werr,
		"Put object": s.Put(t.Context(), name, big),
		"Put root":   s.Put(t.Context(), ".cvmfsreflog", big),
		"Swap":       s.Swap(t.Context(), ".cvmfspublished", nil, big),
	} {
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want ENOSPC that names the path", op, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "data/txn")); err != nil || len(left) != 0 {
		t.Errorf("left in data/txn: %v, %v", left, err)
	}
	if has(t, s, name) || has(t, s, ".cvmfsreflog") || has(t, s, ".cvmfspublished") || !has(t, s, small) {
		t.Error("a failed write left its mark")
	}
	put(t, s, "there is room for more")
}

// Nobody waits for a FIFO, and a directory is no file.
func TestGetOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	s := create(t, dir)
	if err := unix.Mkfifo(filepath.Join(dir, ".cvmfsfifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".cvmfsfifo", "data/00"} {
		if r, err := s.Get(context.Background(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get(%s) = %v, %v", name, r, err)
		}
		if has(t, s, name) {
			t.Errorf("Has(%s)", name)
		}
	}
}

// The names that a repository with alternative paths has.
func TestSymlinks(t *testing.T) {
	dir := t.TempDir()
	s := create(t, dir)
	name := put(t, s, "object")
	if err := os.Symlink(name, filepath.Join(dir, ".cvmfsalt-x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("data/none", filepath.Join(dir, ".cvmfsalt-dangling")); err != nil {
		t.Fatal(err)
	}
	var listed []string
	if err := s.List(t.Context(), ".cvmfs", func(name string, size int64) error {
		listed = append(listed, name)
		return nil
	}); err != nil || len(listed) != 1 || !has(t, s, ".cvmfsalt-x") || has(t, s, ".cvmfsalt-dangling") {
		t.Errorf("listed %v, %v", listed, err)
	}
}

func BenchmarkPut(b *testing.B) {
	s := create(b, b.TempDir())
	data := make([]byte, 11<<10)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		h := object.Hash{Algorithm: object.SHAKE128} // hashing is not measured here
		h.Digest[0], h.Digest[1], h.Digest[2], h.Digest[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
		if err := s.Put(b.Context(), object.Path(h, object.Bulk), data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutExisting(b *testing.B) {
	s := create(b, b.TempDir())
	data := make([]byte, 11<<10)
	name := object.Path(object.SHAKE128.Sum(data), object.Bulk)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Put(b.Context(), name, data); err != nil {
			b.Fatal(err)
		}
	}
}
