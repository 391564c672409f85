package fusefs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// A clone of the mount shows mapped ids, and the kernel checks permissions by
// them: containers with a user namespace get their lower layers so (Linux
// 6.12).
func TestIDMapped(t *testing.T) {
	v := viewtest.New()
	v.Add("file", viewtest.File{Mode: unix.S_IFREG | 0o640, Data: []byte("text")})
	m := mount(t, v, fusefs.Options{})
	userns, err := overlay.UserNamespace(overlay.Mapping{
		UIDs: []overlay.IDRange{{Container: 0, Host: 4294967294, Size: 1}, {Container: 1, Host: 1, Size: 1 << 16}},
		GIDs: []overlay.IDRange{{Container: 0, Host: 4294967294, Size: 1}, {Container: 1, Host: 1, Size: 1 << 16}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer userns.Close()
	clone := t.TempDir()
	if err := overlay.MountMapped(m.dir, clone, userns); errors.Is(err, overlay.ErrNoIDMap) {
		t.Skipf("SKIPPED: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(clone, 0)
	for path, want := range map[string]uint32{m.path("file"): 0, filepath.Join(clone, "file"): 4294967294} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Uid != want || st.Gid != want {
			t.Errorf("%s belongs to %d:%d, %v, want %d", path, st.Uid, st.Gid, err, want)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "text" {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
}
