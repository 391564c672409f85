package e2e_test

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// cyclesVar names the environment variable with how many containers TestCycles
// makes and deletes; a day's worth on a busy cell is 10000.
const cyclesVar = "ROOTSTOCK_TEST_CYCLES"

// guardian is the mapping of Guardian's unprivileged containers
// (docs/garden.md 2).
var guardian = []overlay.IDRange{{Container: 0, Host: 4294967294, Size: 1}, {Container: 1, Host: 1, Size: 4294967293}}

func fromEnvironment(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// inUse counts what a cell runs out of.
func (c *cellDaemon) inUse(metrics string) map[string]int {
	t := c.t
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	use := map[string]int{"mounts": strings.Count(string(mounts), c.dir+"/")}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
	must(t, err)
	use["descriptors of the daemon"] = len(fds)
	for _, dir := range []string{"containers", "cache"} {
		err := filepath.WalkDir(filepath.Join(c.dir, dir), func(path string, e fs.DirEntry, err error) error {
			if path == filepath.Join(c.dir, "cache/mnt") { // mounts, which are counted
				return filepath.SkipDir
			}
			use["files"]++
			return nil // what goes away meanwhile was not left
		})
		must(t, err)
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	for _, b := range backing {
		if text, err := os.ReadFile(b); err == nil && strings.HasPrefix(string(text), c.dir) {
			use["loop devices"]++
		}
	}
	use["goroutines of the daemon"] = c.metric(metrics, "rootstock_cell_goroutines")
	return use
}

// metric returns one of the daemon's metrics.
func (c *cellDaemon) metric(address, name string) int {
	c.t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	must(c.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(c.t, err)
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(string(text))
	if m == nil {
		c.t.Fatalf("no %s among the metrics", name)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	must(c.t, err)
	return int(n)
}

// kilobytes returns a line of a file such as /proc/meminfo.
func kilobytes(t testing.TB, file, name string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	m := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB$`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatalf("no %s in %s", name, file)
	}
	n, err := strconv.Atoi(m[1])
	must(t, err)
	return n
}

// Containers that come and go leave nothing behind: on the host, in the store,
// or in the daemon.
func TestCycles(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	tar := filepath.Join(s.dir, "tree.tar")
	run(t, s.dir, "python3", abs(t, "testdata/tree.py"), tar)
	s.publish(t, "rootfs", "one", "1", tar)
	s.serve(t)                      // for longer than the first way takes
	if os.Getenv(cyclesVar) != "" { // the benchmark's, on the way that it is told
		s.cycles(t)
		return
	}
	for _, w := range ways(t) {
		t.Run(w.String(), func(t *testing.T) { s.cycles(t, "--tier", w.tier, "--id-mapping", w.ids) })
	}
}

func (s *site) cycles(t *testing.T, flags ...string) {
	cycles := fromEnvironment(t, cyclesVar, 20)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	metrics := l.Addr().String()
	must(t, l.Close())
	c := s.cell(t, append(flags, "--metrics", metrics)...)
	c.config("guardian.json", guardian)
	config := func(i int) string {
		if i%2 == 0 {
			return "plugin.json"
		}
		return "guardian.json"
	}
	cycle := func(i int) {
		handle, ref := fmt.Sprintf("h%d", i), "cvmfs://"+siteName+"/rootfs/one"
		args := []string{"create", ref, handle}
		if i%20 == 3 {
			args = append(args, "--disk-limit-size-bytes", "100000000")
		}
		c.plugin(config(i), args...)
		c.plugin(config(i), "delete", handle)
	}
	for i := range 20 { // what is made once
		cycle(i)
	}
	before := c.inUse(metrics)
	for i := range cycles {
		cycle(i)
	}
	after := c.inUse(metrics)
	t.Logf("%d cycles: before %v, after %v, resident %d kB", cycles, before, after,
		kilobytes(t, fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid), "VmRSS"))
	for what, n := range after {
		// A connection may be closing, and the runtime's own come and go.
		if n > before[what]+4 {
			t.Errorf("%d %s, %d before %d cycles", n, what, before[what], cycles)
		}
	}
}
