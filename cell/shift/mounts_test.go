package shift_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/shift"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
}

func open(t *testing.T, dir string, v *viewtest.Tree) *shift.Mounts {
	t.Helper()
	m, err := shift.New(shift.Options{Dir: dir, Name: "test", View: v})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if err := m.Resume(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return m
}

func get(t *testing.T, m *shift.Mounts, mapping overlay.Mapping) string {
	t.Helper()
	dir, err := m.Get(t.Context(), mapping)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// stat asks in a process of its own: this one is to answer.
func stat(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("stat", "-c", "%u:%g", path).CombinedOutput()
	if err != nil {
		t.Errorf("stat %s: %v: %s", path, err, out)
	}
	return string(bytes.TrimSpace(out))
}

func mountsBelow(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), " "+dir+"/")
}

func TestMounts(t *testing.T) {
	needRoot(t)
	dir, v := filepath.Join(t.TempDir(), "ids"), viewtest.New()
	v.Add("/file", viewtest.File{Mode: regular | 0o640, UID: 1000, GID: 0, Data: []byte("text")})
	m := open(t, dir, v)

	first := get(t, m, high)
	if got := stat(t, first+"/file"); got != "101000:100000" {
		t.Errorf("owner %s", got)
	}
	if text, err := exec.Command("cat", first+"/file").Output(); err != nil || string(text) != "text" {
		t.Errorf("content %q, %v", text, err)
	}
	if again := get(t, m, high); again != first {
		t.Errorf("the same mapping got %s and %s", first, again)
	}
	second := get(t, m, guardian)
	if got := stat(t, second+"/file"); second == first || got != "1000:4294967294" {
		t.Errorf("another mapping: owner %s at %s", got, second)
	}
	backwards := overlay.Mapping{UIDs: []overlay.IDRange{guardian.UIDs[1], guardian.UIDs[0]}, GIDs: guardian.GIDs}
	if third := get(t, m, backwards); third != second {
		t.Errorf("the order of ranges makes another mount: %s", third)
	}

	// A revision with other names is shown, whatever the kernel remembers.
	if out, err := exec.Command("stat", first+"/late").CombinedOutput(); err == nil {
		t.Errorf("there already: %s", out)
	}
	v.Revise()
	v.Add("/late", viewtest.File{UID: 5, GID: 5})
	if err := m.ShowRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := stat(t, first+"/late"); got != "100005:100005" {
		t.Errorf("the new revision: %s", got)
	}
	if n, counts := m.Stats(); n != 2 || counts.Requests < 4 || counts.Failures > 0 {
		t.Errorf("%d mounts, %+v", n, counts)
	}

	// What somebody unmounts is mounted again for the next.
	if err := unix.Unmount(first, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	for n := 2; n > 1; n, _ = m.Stats() {
		time.Sleep(time.Millisecond)
		if t.Context().Err() != nil {
			t.Fatal("a mount that is gone is still counted")
		}
	}
	if got := stat(t, get(t, m, high)+"/file"); got != "101000:100000" {
		t.Errorf("mounted again: owner %s", got)
	}
	m.Close()
	if n := mountsBelow(t, dir); n > 0 {
		t.Errorf("%d mounts are left", n)
	}
	if _, err := m.Get(t.Context(), high); err == nil {
		t.Error("a mount after the end")
	}
	if _, counts := m.Stats(); counts.Requests < 6 {
		t.Errorf("counts of what has ended: %+v", counts)
	}
}

func TestTooManyMappings(t *testing.T) {
	needRoot(t)
	m := open(t, filepath.Join(t.TempDir(), "ids"), viewtest.New())
	for i := range uint32(17) {
		_, err := m.Get(t.Context(), same(overlay.IDRange{Container: 0, Host: 1000 * (i + 1), Size: 1000}))
		if (err != nil) != (i == 16) || err != nil && !errors.Is(err, shift.ErrTooMany) {
			t.Errorf("mapping %d: %v", i, err)
		}
	}
}

// What a process that was killed has left is in nobody's way.
func TestSweep(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "ids")
	left := filepath.Join(dir, "0123456789abcdef")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := unix.Mount("left", left, "tmpfs", 0, "size=4k"); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, viewtest.New())
	if n := mountsBelow(t, dir); n > 0 {
		t.Errorf("%d mounts are left", n)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}
