package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/e2e/rig"
)

// mount(8) finds the helper, which serves on when mount has returned; umount
// ends it. Everything happens in mount and process namespaces of its own, so
// that nothing is installed and nothing stays.
func TestMountHelper(t *testing.T) {
	needRoot(t)
	bin := programs(t)
	golden := filepath.Join(needGolden(t), "tags")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"etc/default.local":                  "CVMFS_HTTP_PROXY=DIRECT\nCVMFS_CACHE_BASE=" + dir + "/cache\nCVMFS_KEYS_DIR=" + golden + "/keys\n",
		"etc/config.d/tags.golden.cf.conf":   "CVMFS_SERVER_URL=" + rig.Serve(t, filepath.Join(golden, "repo")) + "\n",
		"etc/config.d/absent.golden.cf.conf": "CVMFS_SERVER_URL=http://127.0.0.1:1\n",
		"sbin/keep":                          "", "mnt/keep": "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(bin, "rootstock-cell"), filepath.Join(dir, "sbin/mount.rootstock")); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`set -eu
mount -t proc proc /proc
mount -t overlay -o lowerdir=%[1]s/sbin:/usr/sbin none /usr/sbin
export LC_ALL=C
mount -t rootstock -o config=%[1]s/etc,log=%[1]s/log,nosuid,noexec tags.golden.cf %[1]s/mnt
grep " %[1]s/mnt fuse.rootstock ro,nosuid,noexec" /proc/mounts
ls %[1]s/mnt | head -1
! mount -t rootstock -o config=%[1]s/etc,log=%[1]s/log tags.golden.cf %[1]s/sbin || echo "a second process got the same cache"
umount %[1]s/mnt
for i in $(seq 600); do pgrep rootstock-cell >/dev/null || break; sleep 0.1; done
! pgrep -a rootstock-cell || echo "it still runs"
! mount -t rootstock -o config=%[1]s/etc,log=%[1]s/log,bogus tags.golden.cf %[1]s/mnt
! mount -t rootstock -o config=%[1]s/etc,log=%[1]s/log absent.golden.cf %[1]s/mnt
! mount -t rootstock -o config=%[1]s/etc,log=%[1]s/log nowhere.golden.cf %[1]s/mnt
mount -t rootstock -o config=%[1]s/etc,log=%[1]s/log,tag=release-1 tags.golden.cf %[1]s/mnt
getfattr --absolute-names --only-values -n user.tag %[1]s/mnt
umount %[1]s/mnt
echo "; all went as it should"
`, dir)
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	said := string(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{
		"mounted tags.golden.cf revision", "nosuid,noexec", "cache", `unknown option "bogus"`, "127.0.0.1:1",
		"CVMFS_SERVER_URL is not set for nowhere.golden.cf", "release-1; all went as it should",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
	if strings.Contains(said, "a second process") || strings.Contains(said, "it still runs") {
		t.Errorf("a second mount succeeded, or the first did not end:\n%s", said)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil || !strings.Contains(string(log), "msg=mounted") || !strings.Contains(string(log), "msg=unmounted") {
		t.Errorf("log: %v\n%s", err, log)
	}
}
