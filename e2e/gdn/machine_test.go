package gdn_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stageVar says how far inside the namespaces this process is.
const stageVar = "ROOTSTOCK_GDN_STAGE"

// gdnBin is the server under test.
var gdnBin = os.Getenv("GDN_BIN")

// address is what gdn takes for the host's own.
const address = "10.99.0.1"

// TestMain moves the tests into namespaces of their own. The first process in
// there does nothing but bury what others leave, as an init has to; gdn's
// containers outlive the processes that start them.
func TestMain(m *testing.M) {
	code, err := 0, error(nil)
	switch stage := os.Getenv(stageVar); {
	case gdnBin == "" || os.Geteuid() != 0:
		code = m.Run() // tests say why they skip
	case stage == "":
		code, err = outside()
	case stage == "init":
		code, err = bury()
	default:
		code, err = withPrograms(m.Run)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// again is this process once more, at another stage.
func again(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVar+"="+stage)
	return cmd
}

func exit(err error) (int, error) {
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(ee.ExitCode(), 1), nil
	}
	return 0, err
}

func outside() (int, error) {
	cmd := again("init")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		Unshareflags: unix.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	code, err := exit(cmd.Run())
	return code, errors.Join(err, removeGroups())
}

// bury starts the tests and waits for everybody.
func bury() (int, error) {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 1, fmt.Errorf("proc: %w", err)
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		// gdn wants a default route and an address; nobody is behind it.
		{"link", "add", "gdn0", "type", "veth", "peer", "name", "gdn1"},
		{"addr", "add", address + "/24", "dev", "gdn0"},
		{"link", "set", "gdn0", "up"},
		{"link", "set", "gdn1", "up"},
		{"route", "add", "default", "via", "10.99.0.2"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return 1, fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	cmd := again("tests")
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 1, fmt.Errorf("wait: %w", err)
		}
		if pid != cmd.Process.Pid {
			continue
		}
		if status.Signaled() {
			return 1, fmt.Errorf("the tests ended by signal %d", status.Signal())
		}
		return status.ExitStatus(), nil
	}
}

// tag tells gdn's control groups and interfaces apart from another's: one
// character, which is all that interface names have room for.
const tag = "r"

// removeGroups takes away the control groups that gdn has made, from the
// bottom up. Their processes ended with the namespace.
func removeGroups() error {
	var all []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.Contains(path+"/", "/garden-"+tag+"/") {
			all = append(all, path)
		}
		return nil // groups come and go
	})
	if err != nil {
		return err
	}
	var failed []error
	for i := len(all) - 1; i >= 0; i-- {
		if err := unix.Rmdir(all[i]); err != nil && !errors.Is(err, unix.ENOENT) {
			failed = append(failed, fmt.Errorf("control group %s: %w", all[i], err))
		}
	}
	return errors.Join(failed...)
}

// programs are built once.
var programs struct{ dir, runc string }

func withPrograms(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "rootstock-gdn-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "../../cmd/rootstock", "../../cmd/rootstock-cell",
		"../../cmd/rootstock-plugin", "./testdata/runc")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w: %s", err, out)
	}
	programs.dir, programs.runc = dir, os.Getenv("GDN_RUNC")
	if programs.runc == "" {
		if programs.runc, err = exec.LookPath("runc"); err != nil {
			return 0, fmt.Errorf("install runc, or name one with GDN_RUNC: %w", err)
		}
	}
	return run(), nil
}

func needGdn(t *testing.T) {
	t.Helper()
	if gdnBin == "" {
		t.Skip("SKIPPED: GDN_BIN names no gdn: nothing was tried with a real Garden server (e2e/gdn/README.md)")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: gdn needs root")
	}
	for _, name := range []string{"dadoo", "nstar", "init"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(gdnBin), name)); err != nil {
			t.Fatalf("GDN_BIN=%s needs %s beside it: %v", gdnBin, name, err)
		}
	}
}
