package layer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/rootfsprovider/layer"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func setFlags(t *testing.T, path string, flags int) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
		t.Skipf("SKIPPED: the file system of %s has no immutable flag: %v", path, err)
	}
}

func TestRemoveAll(t *testing.T) {
	const immutable, appendOnly = unix.STATX_ATTR_IMMUTABLE, unix.STATX_ATTR_APPEND
	for name, fill := range map[string]func(t *testing.T, dir string){
		"empty": func(*testing.T, string) {},
		"many": func(t *testing.T, dir string) {
			for i := range 3000 {
				must(t, os.WriteFile(filepath.Join(dir, strings.Repeat("x", 1+i%200)+"-"+string(rune('a'+i/200))), nil, 0))
			}
		},
		"links": func(t *testing.T, dir string) {
			must(t, os.Symlink("/", filepath.Join(dir, "root")))
			must(t, os.Symlink("../..", filepath.Join(dir, "up")))
			must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
		},
		"special": func(t *testing.T, dir string) {
			must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
			must(t, unix.Mknod(filepath.Join(dir, "whiteout"), unix.S_IFCHR, 0))
			must(t, unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
			must(t, os.Mkdir(filepath.Join(dir, "closed"), 0))
		},
		"immutable": func(t *testing.T, dir string) {
			sub, f := filepath.Join(dir, "d"), filepath.Join(dir, "d", "f")
			must(t, os.Mkdir(sub, 0o700))
			must(t, os.Mkdir(filepath.Join(sub, "e"), 0o700))
			must(t, os.WriteFile(f, nil, 0o600))
			setFlags(t, f, immutable)
			setFlags(t, filepath.Join(sub, "e"), appendOnly)
			setFlags(t, sub, immutable|appendOnly)
			setFlags(t, dir, immutable)
		},
		"deep": func(t *testing.T, dir string) {
			// Deeper than a process may hold descriptors, and than PATH_MAX.
			fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
			must(t, err)
			// A name that the removal would like to use.
			must(t, unix.Mkdirat(fd, ".rootstock-removed-1", 0o700))
			for range 22000 {
				must(t, unix.Mkdirat(fd, "d", 0o700))
				next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
				must(t, err)
				unix.Close(fd)
				fd = next
			}
			unix.Close(fd)
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			outside := filepath.Join(base, "outside")
			must(t, os.WriteFile(outside, []byte("x"), 0o600))
			dir := filepath.Join(base, "layer")
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.Symlink(outside, filepath.Join(dir, "to outside")))
			fill(t, dir)
			if err := layer.RemoveAll(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(base)
			if err != nil || len(entries) != 1 || entries[0].Name() != "outside" {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

func TestRemoveAllOfOtherThings(t *testing.T) {
	base := t.TempDir()
	if err := layer.RemoveAll(t.Context(), filepath.Join(base, "gone")); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	if err := layer.RemoveAll(t.Context(), filepath.Join(base, "gone", "gone")); err != nil {
		t.Errorf("what is not there, nor its parent: %v", err)
	}
	kept := filepath.Join(base, "kept", "sub")
	must(t, os.MkdirAll(kept, 0o700))
	link := filepath.Join(base, "link")
	must(t, os.Symlink(filepath.Join(base, "kept"), link))
	if err := layer.RemoveAll(t.Context(), link); err != nil {
		t.Errorf("a link: %v", err)
	}
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link is still there: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("what the link leads to: %v", err)
	}
}

// A file system mounted in the layer is not emptied.
func TestRemoveAllStopsAtMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	dir := filepath.Join(t.TempDir(), "layer")
	mnt := filepath.Join(dir, "mnt")
	must(t, os.MkdirAll(mnt, 0o700))
	must(t, unix.Mount("tmpfs", mnt, "tmpfs", 0, ""))
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	file := filepath.Join(mnt, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if err := layer.RemoveAll(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "mnt") {
		t.Errorf("RemoveAll: %v", err)
	}
	if err := layer.RemoveAll(t.Context(), mnt); err == nil {
		t.Error("a mount point was removed")
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the mounted file: %v", err)
	}
}

func TestRemoveAllCanceled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layer")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o700))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := layer.RemoveAll(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("RemoveAll: %v", err)
	}
}

func TestBytes(t *testing.T) {
	dir := t.TempDir()
	empty, err := layer.Bytes(t.Context(), dir)
	must(t, err)
	const size = 1 << 20
	sub := filepath.Join(dir, "sub")
	must(t, os.Mkdir(sub, 0o700))
	must(t, os.WriteFile(filepath.Join(sub, "f"), make([]byte, size), 0o600))
	must(t, os.Link(filepath.Join(sub, "f"), filepath.Join(dir, "g")))
	must(t, os.Symlink("/", filepath.Join(dir, "root")))
	must(t, os.WriteFile(filepath.Join(dir, "hole"), nil, 0o600))
	must(t, os.Truncate(filepath.Join(dir, "hole"), 1<<40))
	f, err := os.Open(filepath.Join(sub, "f"))
	must(t, err)
	must(t, f.Sync()) // blocks are known once they are allocated
	f.Close()
	got, err := layer.Bytes(t.Context(), dir)
	must(t, err)
	if more := got - empty; more < size || more > size+64<<10 {
		t.Errorf("%d bytes more than an empty directory, want about %d", more, size)
	}
	if _, err := layer.Bytes(t.Context(), filepath.Join(dir, "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := layer.Bytes(t.Context(), filepath.Join(dir, "root")); err == nil {
		t.Error("a link was followed")
	}
}

func TestBytesTooDeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layer")
	must(t, os.Mkdir(dir, 0o700))
	defer layer.RemoveAll(context.Background(), dir)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for range 1500 {
		must(t, unix.Mkdirat(fd, "d", 0o700))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	if n, err := layer.Bytes(t.Context(), dir); err == nil {
		t.Errorf("Bytes = %d of a tree of 1500 levels", n)
	}
}
