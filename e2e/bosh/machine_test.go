package bosh_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// inside says that this is the process in the namespaces.
const inside = "ROOTSTOCK_BOSH_INSIDE"

// vcap is the user that jobs run as on stemcells.
const vcap = 1000

// machine makes a mount namespace look like a BOSH VM: a /var/vcap on the disk,
// and a user vcap. In a PID namespace of its own nothing outlives it.
const machine = `
set -eu
d=$1; shift
mount --make-rprivate /
mount -t proc proc /proc
mkdir "$d/vcap" "$d/scratch"
mount -t tmpfs tmpfs "$d/scratch"
mkdir "$d/scratch/var" "$d/scratch/work"
mount -t overlay -o "lowerdir=/var,upperdir=$d/scratch/var,workdir=$d/scratch/work" overlay /var
mkdir -p /var/vcap
mount --bind "$d/vcap" /var/vcap
for f in passwd group; do
	grep -v -e '^vcap:' -e '^[^:]*:[^:]*:1000:' "/etc/$f" >"$d/scratch/$f"
done
echo 'vcap:x:1000:1000::/home/vcap:/bin/sh' >>"$d/scratch/passwd"
echo 'vcap:x:1000:' >>"$d/scratch/group"
for f in passwd group; do mount --bind "$d/scratch/$f" "/etc/$f"; done
"$@"
`

// TestMain runs the tests in namespaces, and is bpm where that is its name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "bpm" {
		if err := bpm(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "bpm:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	os.Exit(outside())
}

func outside() int {
	dir, err := os.MkdirTemp("", "rootstock-bosh-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // vcap has to get in
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", machine, "machine", dir, self}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "namespaces:", err)
		}
		return 1
	}
	return 0
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("SKIPPED: needs root: jobs are run below /var/vcap of a mount namespace")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), mode))
	must(t, os.Chmod(path, mode))
}

// command runs a program, which must end well, and returns what it says on
// standard output.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	var errs strings.Builder
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}
