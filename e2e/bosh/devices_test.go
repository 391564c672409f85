package bosh_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidDevices attaches to a control group (version 2) what runc attaches where
// there are no rules for devices: a program of two instructions that says no.
func forbidDevices(t *testing.T, group string) {
	t.Helper()
	const no, exit = 0xb7, 0x95 // r0 = 0; return
	program := [2]uint64{no, exit}
	license := []byte("GPL\x00")
	load := struct {
		kind, length   uint32
		text, license  uint64
		level, size    uint32
		log            uint64
		version, flags uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, length: uint32(len(program)),
		text: uint64(uintptr(unsafe.Pointer(&program))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	if errno != 0 {
		t.Skipf("SKIPPED: this kernel takes no program for a control group: %v", errno)
	}
	defer unix.Close(int(fd))
	dir, err := unix.Open(group, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(dir)
	attach := struct{ target, program, kind, flags uint32 }{target: uint32(dir), program: uint32(fd), kind: unix.BPF_CGROUP_DEVICE}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		t.Fatalf("attach: %v", errno)
	}
}

// unified is where this machine has control groups of version 2.
func unified(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	t.Skip("SKIPPED: this machine has no control groups of version 2")
	return ""
}

// With control groups of version 2 a program that may not open devices gets a
// group in which it may.
func TestDevicesUnified(t *testing.T) {
	needRoot(t)
	root := unified(t)
	group := filepath.Join(root, strings.TrimPrefix(cgroup("devices"), "/"))
	must(t, os.Mkdir(group, 0o755))
	t.Cleanup(func() {
		os.Remove(group)
		os.Remove(filepath.Join(root, "rootstock-cell"))
	})
	forbidDevices(t, group)
	script, err := filepath.Abs(release + "/jobs/rootstock-cell/templates/bin/with-devices")
	must(t, err)
	dir, err := os.Open(group)
	must(t, err)
	defer dir.Close()
	// run runs a command in the group, where /sys/fs/cgroup is of version 2.
	run := func(words ...string) (string, error) {
		bind := `mount --bind "$0" /sys/fs/cgroup; exec "$@"`
		cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"-m", "/bin/sh", "-ec", bind, root}, words...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const look = `exec 3<>/dev/fuse && echo opened && cat /proc/self/cgroup`
	if out, err := run("bash", "-c", look); err == nil {
		t.Fatalf("the group forbids nothing: %s", out)
	}
	out, err := run(script, "bash", "-c", look)
	if err != nil || !strings.Contains(out, "opened\n") || !strings.Contains(out, "0::/rootstock-cell\n") {
		t.Errorf("with-devices: %v\n%s", err, out)
	}
}
