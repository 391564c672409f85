package layer_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/rootfsprovider/layer"
)

// Each inode is changed once, whatever names it has, links are not followed,
// and set-id bits stay.
func TestChown(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: changing owners needs root")
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(outside, nil, 0o600),
		os.MkdirAll(at("a/b"), 0o755),
		os.WriteFile(at("a/b/file"), nil, 0o600),
		os.Link(at("a/b/file"), at("link")),
		os.Chown(at("link"), 7, 8),
		os.Chmod(at("link"), 0o755|os.ModeSetuid|os.ModeSetgid),
		os.Symlink(outside, at("a/symlink")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	err := layer.Chown(t.Context(), dir, func(uid, gid uint32) (uint32, uint32, bool) { return uid + 1000, gid + 2000, true })
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][3]uint32{
		dir: {1000, 2000, 0o755}, at("a"): {1000, 2000, 0o755}, at("a/b"): {1000, 2000, 0o755}, at("a/symlink"): {1000, 2000, 0o777},
		at("a/b/file"): {1007, 2008, 0o6755}, outside: {0, 0, 0o600},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || [3]uint32{st.Uid, st.Gid, st.Mode & 0o7777} != want {
			t.Errorf("%s: %d:%d %o, %v; want %v", path, st.Uid, st.Gid, st.Mode&0o7777, err, want)
		}
	}
	err = layer.Chown(t.Context(), dir, func(uid, gid uint32) (uint32, uint32, bool) { return 0, 0, uid != 1007 })
	if !errors.Is(err, layer.ErrNoOwner) {
		t.Errorf("an owner that cannot be: %v", err)
	}
}
