package e2e_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/e2e/rig"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// cellDaemon is a rootstock-cell that may be killed and started again on the
// same cache.
type cellDaemon struct {
	t    testing.TB
	s    *site
	dir  string // mountpoint, cache, socket and the plugin's store lie in it
	args []string
	// program is what args are for; "" is rootstock-cell.
	program string
	// within is a control group's file of processes, which the plugin's go
	// into; "" for none.
	within string
	cmd    *exec.Cmd
	log    *rig.Output
}

// cell starts a daemon on an empty cache, with flags, which go before what the
// environment forces.
func (s *site) cell(t testing.TB, flags ...string) *cellDaemon {
	t.Helper()
	dir, err := os.MkdirTemp(s.dir, "cell-")
	must(t, err)
	// Processes of a user namespace have to get to their root.
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	must(t, os.Mkdir(dir+"/mnt", 0o755))
	c := &cellDaemon{t: t, s: s, dir: dir, args: append([]string{
		"mount", "--url", s.serve(t), "--name", s.fqrn(), "--key", filepath.Join(s.keys, s.fqrn()+".pub"),
		"--cache", dir + "/cache", "--socket", dir + "/cell.sock",
	}, slices.Concat(rig.Ways(), flags, []string{dir + "/mnt"})...)}
	c.config("plugin.json", nil)
	c.start()
	t.Cleanup(c.end)
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cellDaemon) config(name string, mapping []overlay.IDRange) {
	c.t.Helper()
	text, err := json.Marshal(map[string]any{
		"store": c.dir + "/containers", "socket": c.dir + "/cell.sock", "uid_maps": mapping, "gid_maps": mapping,
	})
	must(c.t, err)
	must(c.t, os.WriteFile(filepath.Join(c.dir, name), text, 0o600))
}

func (c *cellDaemon) start() {
	c.t.Helper()
	c.cmd, c.log = exec.Command(cmp.Or(c.program, c.s.bin+"/rootstock-cell"), c.args...), &rig.Output{}
	c.cmd.Stderr = c.log
	out, err := c.cmd.StdoutPipe()
	must(c.t, err)
	must(c.t, c.cmd.Start())
	stuck := time.AfterFunc(patience, func() { c.cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if stuck.Stop(); err != nil || !strings.HasPrefix(line, "mounted ") {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		c.t.Fatalf("the cell said %q, %v, and\n%s", line, err, c.log)
	}
}

// kill is a SIGKILL, after which only the dead mount is cleared away.
func (c *cellDaemon) kill() {
	c.t.Helper()
	must(c.t, c.cmd.Process.Kill())
	c.cmd.Wait()
	must(c.t, unix.Unmount(c.dir+"/mnt", unix.MNT_DETACH))
}

// stop is a SIGTERM, which must end the daemon well and soon.
func (c *cellDaemon) stop() {
	c.t.Helper()
	c.cmd.Process.Signal(unix.SIGTERM)
	stuck := time.AfterFunc(patience, func() { c.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("the cell ended with %v and said\n%s", err, c.log)
	}
}

// end takes away everything, also after a test that failed.
func (c *cellDaemon) end() {
	if c.cmd != nil && c.cmd.ProcessState == nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
	text, err := os.ReadFile("/proc/self/mounts")
	must(c.t, err)
	lines := strings.Split(string(text), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 1 && strings.HasPrefix(f[1], c.s.dir+"/") {
			if err := unix.Unmount(f[1], unix.MNT_DETACH); err != nil {
				c.t.Errorf("unmount %s: %v", f[1], err)
			}
		}
	}
}

// create makes a container and returns its root directory.
func (c *cellDaemon) create(config, ref, handle string) string {
	c.t.Helper()
	var spec struct{ Root struct{ Path string } }
	must(c.t, json.Unmarshal([]byte(c.plugin(config, "create", "cvmfs://"+c.s.fqrn()+"/"+ref, handle)), &spec))
	return spec.Root.Path
}

func (c *cellDaemon) plugin(config string, args ...string) string {
	c.t.Helper()
	args = append([]string{c.s.bin + "/rootstock-plugin", "--config", filepath.Join(c.dir, config)}, args...)
	cmd := exec.Command(args[0], args[1:]...)
	if c.within != "" {
		cmd = exec.Command("sh", append([]string{"-c", `echo $$ >"$0" && exec "$@"`, c.within}, args...)...)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("plugin %v: %v\n%s%s\nthe cell said\n%s", args, err, out, &errs, c.log)
	}
	return string(out)
}

func (c *cellDaemon) status() (s cell.Status) {
	c.t.Helper()
	must(c.t, json.Unmarshal([]byte(run(c.t, "", c.s.bin+"/rootstock-cell", "status", "--json", "--socket", c.dir+"/cell.sock")), &s))
	return s
}

// nothingMounted looks for what must be gone when the last container is.
func (c *cellDaemon) nothingMounted(below string) {
	c.t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	must(c.t, err)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, fmt.Sprintf(" %s/%s", c.dir, below)) {
			c.t.Errorf("still mounted: %s", line)
		}
	}
}
