package overlay_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// guardian maps root alone elsewhere (docs/garden.md 2).
var guardian = overlay.Mapping{
	UIDs: []overlay.IDRange{{0, 4294967294, 1}, {1, 1, 4294967293}},
	GIDs: []overlay.IDRange{{0, 4294967294, 1}, {1, 1, 4294967293}},
}

func TestMapping(t *testing.T) {
	if err := guardian.Validate(); err != nil {
		t.Error(err)
	}
	if !(overlay.Mapping{}).IsZero() || (overlay.Mapping{}).Validate() != nil {
		t.Error("the zero mapping is not valid")
	}
	for _, tc := range []struct{ uid, gid, wantUID, wantGID uint32 }{
		{0, 0, 4294967294, 4294967294}, {1000, 0, 1000, 4294967294}, {4294967293, 1, 4294967293, 1},
	} {
		if u, g, ok := guardian.Host(tc.uid, tc.gid); !ok || u != tc.wantUID || g != tc.wantGID {
			t.Errorf("Host(%d, %d) = %d, %d, %v", tc.uid, tc.gid, u, g, ok)
		}
	}
	if _, _, ok := guardian.Host(4294967294, 0); ok {
		t.Error("an id outside the mapping was mapped")
	}
	one := []overlay.IDRange{{0, 1000, 10}}
	for name, ranges := range map[string][]overlay.IDRange{
		"none":               nil,
		"empty range":        {{0, 1000, 0}},
		"no root":            {{1, 1000, 10}},
		"container overlaps": {{0, 1000, 10}, {9, 2000, 1}},
		"host overlaps":      {{0, 1000, 10}, {10, 1009, 1}},
		"past the last id":   {{0, 4294967294, 2}},
		"container past it":  {{0, 1, 10}, {4294967290, 100, 6}},
		"too many":           make([]overlay.IDRange, 341),
	} {
		if (overlay.Mapping{UIDs: ranges, GIDs: one}).Validate() == nil || (overlay.Mapping{UIDs: one, GIDs: ranges}).Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Through an idmapped clone the container's root owns what host root owns in
// the source, and a copy-up keeps it so.
func TestMountMapped(t *testing.T) {
	needRoot(t)
	ns, err := overlay.UserNamespace(guardian)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	dir := t.TempDir()
	lower := mkdir(t, dir, "lower")
	for name, uid := range map[string]int{"root": 0, "vcap": 2000} {
		write(t, name, lower, name)
		if err := os.Chown(filepath.Join(lower, name), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	mapped := mkdir(t, dir, "mapped")
	if err := overlay.MountMapped(lower, mapped, ns); err != nil {
		t.Fatal(err)
	}
	defer unmount(t, mapped)
	if err := os.WriteFile(filepath.Join(mapped, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("the clone is writable: %v", err)
	}
	upper, rootfs := mkdir(t, dir, "upper"), mkdir(t, dir, "rootfs")
	err = overlay.Mount(overlay.Layers{Lower: []string{mapped}, Upper: upper, Work: mkdir(t, dir, "work")}, rootfs)
	if err != nil {
		t.Fatal(err)
	}
	defer unmount(t, rootfs)
	// The overlay keeps the clone alive.
	unmount(t, mapped)
	owner := func(path string) uint32 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Uid != st.Gid {
			t.Errorf("%s: user %d, group %d", path, st.Uid, st.Gid)
		}
		return st.Uid
	}
	for name, want := range map[string]uint32{"root": 4294967294, "vcap": 2000} {
		if got := owner(filepath.Join(rootfs, name)); got != want {
			t.Errorf("%s belongs to %d, want %d", name, got, want)
		}
		if err := os.Chmod(filepath.Join(rootfs, name), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := owner(filepath.Join(upper, name)); got != want {
			t.Errorf("%s, copied up, belongs to %d, want %d", name, got, want)
		}
	}
}

// procfs can be cloned but not mapped: what a kernel without idmapped FUSE
// says of a FUSE mount.
func TestMountMappedRefused(t *testing.T) {
	needRoot(t)
	ns, err := overlay.UserNamespace(guardian)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	target := mkdir(t, t.TempDir(), "mapped")
	err = overlay.MountMapped("/proc", target, ns)
	if !errors.Is(err, overlay.ErrNoIDMap) || !strings.Contains(err.Error(), "/proc") {
		t.Errorf("procfs: %v", err)
		unmount(t, target)
	}
	if err := overlay.CanMap("/proc"); !errors.Is(err, overlay.ErrNoIDMap) {
		t.Errorf("procfs can be mapped: %v", err)
	}
	if err := overlay.CanMap(target); err != nil {
		t.Errorf("%s cannot be mapped: %v", target, err)
	}
}

func TestUserNamespaceLeavesNoProcess(t *testing.T) {
	needRoot(t)
	ns, err := overlay.UserNamespace(guardian)
	if err != nil {
		t.Fatal(err)
	}
	ns.Close()
	var ws unix.WaitStatus
	if pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
}

func BenchmarkUserNamespace(b *testing.B) {
	needRoot(b)
	for b.Loop() {
		ns, err := overlay.UserNamespace(guardian)
		if err != nil {
			b.Fatal(err)
		}
		ns.Close()
	}
}
