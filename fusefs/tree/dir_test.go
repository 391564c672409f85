package tree_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

// getdents reads entries from fd on until the end, buffer bytes at a time.
func getdents(t *testing.T, fd, buffer int) (all []fuse.DirEntry) {
	t.Helper()
	buf := make([]byte, buffer)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			t.Fatalf("getdents after %d entries: %v", len(all), err)
		}
		if n == 0 {
			return all
		}
		for rest := buf[:n]; len(rest) > 0; {
			var e fuse.DirEntry
			rest = rest[e.Parse(rest):]
			all = append(all, e)
		}
	}
}

func openDir(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestLargeDirectory(t *testing.T) {
	const entries = 20_000
	v := viewtest.New()
	for i := range entries {
		v.Add(fmt.Sprintf("/dir/%05d-%s", i, strings.Repeat("x", i%200)), viewtest.File{})
	}
	m := mount(t, v, fusefs.Options{})
	first := getdents(t, openDir(t, m.path("/dir")), 4096)
	if len(first) != entries+2 || first[0].Name != "." || first[1].Name != ".." {
		t.Fatalf("%d entries, the first two %q and %q", len(first), first[0].Name, first[1].Name)
	}
	dir, err := v.Node("/dir")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, e := range first {
		if seen[e.Name] {
			t.Fatalf("%q is listed twice", e.Name)
		}
		seen[e.Name] = true
		if e.Name == "." || e.Name == ".." {
			continue
		}
		_, a, err := v.Lookup(t.Context(), dir, e.Name)
		if err != nil || a.Ino != e.Ino || e.Mode != unix.S_IFREG {
			t.Fatalf("%+v: not what the view has: %+v, %v", e, a, err)
		}
	}
	// Another reader, another buffer size, warm: the same list.
	if again := getdents(t, openDir(t, m.path("/dir")), 65536); !slices.Equal(again, first) {
		t.Error("a second listing differs from the first")
	}
}

func TestSeekdir(t *testing.T) {
	v := viewtest.New()
	for i := range 500 {
		v.Add(fmt.Sprintf("/dir/entry-%03d", i), viewtest.File{})
	}
	m := mount(t, v, fusefs.Options{})
	fd := openDir(t, m.path("/dir"))
	all := getdents(t, fd, 4096)
	for _, at := range []int{0, 1, 2, 3, 250, len(all) - 2, len(all) - 1} {
		// A descriptor of its own has no place in the listing but this one.
		for _, fd := range []int{fd, openDir(t, m.path("/dir"))} {
			if _, err := unix.Seek(fd, int64(all[at].Off), 0); err != nil {
				t.Fatal(err)
			}
			if rest := getdents(t, fd, 1024); !slices.Equal(rest, all[at+1:]) {
				t.Errorf("after entry %d: %d entries, want the last %d", at, len(rest), len(all)-at-1)
			}
		}
	}
	if _, err := unix.Seek(fd, 1<<40, 0); err != nil {
		t.Fatal(err)
	}
	if rest := getdents(t, fd, 1024); len(rest) != 0 {
		t.Errorf("%d entries beyond the end", len(rest))
	}
}

// forest is a tree of about 1,000 entries of all cached kinds.
func forest() *viewtest.Tree {
	v := viewtest.New()
	for d := range 30 {
		for f := range 30 {
			v.Add(fmt.Sprintf("/d%d/sub/f%d", d, f), viewtest.File{Data: []byte("content")})
		}
		v.Add(fmt.Sprintf("/d%d/link", d), viewtest.File{Mode: 0o120777, Target: "sub/f0"})
	}
	return v
}

// walk stats, reads and follows everything, and looks for what is not there.
func walk(t *testing.T, dir string) (entries int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entries++
		if _, err := e.Info(); err != nil {
			return err
		}
		switch {
		case e.Type().IsRegular():
			_, err = os.ReadFile(path)
		case e.Type()&os.ModeSymlink != 0:
			_, err = os.Readlink(path)
		case e.IsDir():
			if _, err := os.Lstat(path + "/absent"); !os.IsNotExist(err) {
				return fmt.Errorf("%s/absent: %w", path, err)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestWarmWalkAsksNothing(t *testing.T) {
	m := mount(t, forest(), fusefs.Options{})
	cold := walk(t, m.dir)
	asked := m.conn.Stats().Requests
	if warm := walk(t, m.dir); warm != cold {
		t.Errorf("%d entries warm, %d cold", warm, cold)
	}
	if more := m.conn.Stats().Requests - asked; more != 0 {
		t.Errorf("%d requests for a warm walk of %d entries (%d cold), want 0", more, cold, asked)
	}
}

func TestForgottenNodesAreFoundAgain(t *testing.T) {
	m := mount(t, forest(), fusefs.Options{})
	fd := openDir(t, m.path("/d7/sub"))
	entries := walk(t, m.dir)
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
		t.Skipf("SKIPPED: cannot drop caches: %v", err)
	}
	if again := walk(t, m.dir); again != entries {
		t.Errorf("%d entries after the kernel forgot them, %d before", again, entries)
	}
	if left := getdents(t, fd, 4096); len(left) != 32 {
		t.Errorf("%d entries through a descriptor from before, want 32", len(left))
	}
	if m.conn.Stats().Forgets == 0 {
		t.Error("the kernel forgot nothing: this test tests nothing")
	}
}

// Whoever lists a large directory and then looks at each of its entries, as find
// and ls -l do, asks for no name on its own.
func TestListingIsLookups(t *testing.T) {
	const entries = 2000
	v := viewtest.New()
	for i := range entries {
		v.Add(fmt.Sprintf("/dir/%05d", i), viewtest.File{})
	}
	m := mount(t, v, fusefs.Options{})
	fd := openDir(t, m.path("/dir"))
	before := m.conn.Stats().Requests
	for _, e := range getdents(t, fd, 32<<10) {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
	}
	if n := m.conn.Stats().Requests - before; n > entries/10 {
		t.Errorf("%d requests for a directory of %d entries", n, entries)
	}
}
