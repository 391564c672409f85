package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// memoryGroup is a control group, of version 1 or 2, to which the kernel counts
// what it allocates for the processes in it: mounts, superblocks, inodes. They
// stay counted when the processes have ended.
type memoryGroup struct{ dir string }

func newMemoryGroup(t testing.TB) memoryGroup {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		g := memoryGroup{filepath.Join(root, fmt.Sprintf("rootstock-test-%d", os.Getpid()))}
		if os.Mkdir(g.dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			if err := unix.Rmdir(g.dir); err != nil {
				t.Errorf("control group %s: %v", g.dir, err)
			}
		})
		if _, err := g.read(); err == nil {
			return g
		}
	}
	t.Skip("SKIPPED: no control group counts memory here, so what containers take is not known")
	return memoryGroup{}
}

// procs is the file that takes in processes.
func (g memoryGroup) procs() string { return filepath.Join(g.dir, "cgroup.procs") }

// kernel returns the bytes that the kernel has for the group.
func (g memoryGroup) kernel(t testing.TB) int64 {
	t.Helper()
	n, err := g.read()
	must(t, err)
	return n
}

func (g memoryGroup) read() (int64, error) {
	if text, err := os.ReadFile(filepath.Join(g.dir, "memory.kmem.usage_in_bytes")); err == nil {
		return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	}
	f, err := os.Open(filepath.Join(g.dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "kernel "); ok {
			return strconv.ParseInt(n, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s does not say what the kernel has", f.Name())
}
