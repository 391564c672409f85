package tree_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

// overlay mounts what a container gets: m below, and an upper directory.
func overlay(t *testing.T, m *mounted) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(dir, "merged")
	err := unix.Mount("overlay", merged, "overlay", 0,
		"lowerdir="+m.dir+",upperdir="+filepath.Join(dir, "upper")+",workdir="+filepath.Join(dir, "work"))
	if err != nil {
		t.Skipf("SKIPPED: no overlay on this machine: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, 0); err != nil {
			t.Errorf("unmount overlay: %v", err)
			_ = unix.Unmount(merged, unix.MNT_DETACH)
		}
	})
	return merged
}

// unfit are tests of the suite that fail or skip on ext4 itself.
var unfit = map[string]string{
	"FcntlFlockLocksFile": "expects record locks of one process to exclude each other",
	"XAttrLarge":          "needs an upper file system with values of 64 KiB",
}

// go-fuse's suite writes before it reads, so it runs where containers do: in an
// overlay above the tree.
func TestPosixSuiteInOverlay(t *testing.T) {
	v := forest()
	v.Add("/empty", viewtest.File{Mode: 0o040755})
	m := mount(t, v, fusefs.Options{})
	for name, test := range posixtest.All {
		if why := unfit[name]; why != "" {
			t.Logf("%s left out: %s", name, why)
			continue
		}
		t.Run(name, func(t *testing.T) { test(t, filepath.Join(overlay(t, m), "empty")) })
	}
}

func TestCopyUp(t *testing.T) {
	data := pattern(3 << 20)
	v := viewtest.New()
	v.Add("/etc/config", viewtest.File{Mode: 0o640, UID: 5, GID: 6, MTime: 1e9, Data: data, XAttrs: map[string]string{"user.note": "kept"}})
	v.Add("/etc/removed", viewtest.File{})
	v.Add("/dev/null", viewtest.File{Mode: 0o020666, Rdev: unix.Mkdev(1, 3)})
	m := mount(t, v, fusefs.Options{})
	dir := overlay(t, m)

	config := filepath.Join(dir, "etc/config")
	fd, err := unix.Open(config, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = unix.Write(fd, []byte("more"))
	unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(config); err != nil || !bytes.Equal(got, append(data, "more"...)) {
		t.Errorf("after appending: %d bytes, %v", len(got), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(config, &st); err != nil || st.Mode != unix.S_IFREG|0o640 || st.Uid != 5 || st.Gid != 6 {
		t.Errorf("after copying up: mode %o, %d:%d, %v", st.Mode, st.Uid, st.Gid, err)
	}
	note := make([]byte, 10)
	if n, err := unix.Getxattr(config, "user.note", note); err != nil || string(note[:n]) != "kept" {
		t.Errorf("attribute after copying up: %q, %v", note[:max(n, 0)], err)
	}
	for name, f := range map[string]func() error{
		"unlink":         func() error { return unix.Unlink(filepath.Join(dir, "etc/removed")) },
		"chmod":          func() error { return unix.Chmod(filepath.Join(dir, "dev/null"), 0o600) },
		"chown of a dir": func() error { return unix.Lchown(filepath.Join(dir, "etc"), 1, 1) },
		"rename":         func() error { return unix.Rename(config, config+".old") },
	} {
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(m.path("/etc/removed")); err != nil {
		t.Errorf("the tree below changed: %v", err)
	}
}
