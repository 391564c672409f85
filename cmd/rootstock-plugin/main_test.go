package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/control/controltest"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

const (
	uri       = "cvmfs://stacks/rootfs/test"
	imageSize = 5 << 20
)

// guardian is the mapping of Guardian's unprivileged containers
// (docs/garden.md 2).
var guardian = []overlay.IDRange{{Container: 0, Host: 4294967294, Size: 1}, {Container: 1, Host: 1, Size: 4294967293}}

// programs are built once for all tests.
var programs struct{ plugin, inside string }

func TestMain(m *testing.M) {
	code, err := withPrograms(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withPrograms(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "rootstock-plugin-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	for pkg, path := range map[string]*string{".": &programs.plugin, "./testdata/inside": &programs.inside} {
		*path = filepath.Join(dir, filepath.Base(pkg)+".bin")
		cmd := exec.Command("go", "build", "-o", *path, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("go build %s: %w: %s", pkg, err, out)
		}
	}
	return run(), nil
}

// host is a cell with a daemon, on which a plugin is configured.
type host struct {
	t      testing.TB
	dir    string
	daemon *controltest.Daemon
	config string
	store  string
}

func newHost(t testing.TB, mapping []overlay.IDRange) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	h := &host{t: t, dir: t.TempDir()}
	// Processes of a user namespace have to get to their root.
	for d := h.dir; d != "/" && d != "/tmp"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	lower := filepath.Join(h.dir, "lower")
	for _, d := range []string{"etc", "tmp", "home", "proc", "dev", "sys"} {
		must(t, os.MkdirAll(filepath.Join(lower, d), 0o755))
	}
	for name, text := range map[string]string{"etc/file": "from the image", "home/vcap": "vcap's"} {
		must(t, os.WriteFile(filepath.Join(lower, name), []byte(text), 0o644))
	}
	must(t, os.Chown(filepath.Join(lower, "home/vcap"), 1000, 1000))
	program, err := os.ReadFile(programs.inside)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(lower, "inside"), program, 0o755))
	must(t, os.Mkdir(filepath.Join(lower, "bin"), 0o755))
	for _, name := range []string{"bin/setuid", "bin/capable"} {
		must(t, os.WriteFile(filepath.Join(lower, name), program, 0o755))
	}
	must(t, os.Chmod(filepath.Join(lower, "bin/setuid"), 0o755|os.ModeSetuid))
	// struct vfs_cap_data, revision 2, effective: CAP_CHOWN.
	must(t, unix.Setxattr(filepath.Join(lower, "bin/capable"), "security.capability",
		[]byte{1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	h.daemon = controltest.Start(t, map[string]control.Lower{
		"cvmfs://stacks.example.org/rootfs/test": controltest.Tree(lower, "7", imageSize),
	})
	h.store, h.config = filepath.Join(h.dir, "store"), filepath.Join(h.dir, "config.json")
	text, err := json.Marshal(map[string]any{
		"store": h.store, "socket": h.daemon.Socket, "uid_maps": mapping, "gid_maps": mapping,
		"repositories": map[string]string{"stacks": "stacks.example.org"},
	})
	must(t, err)
	must(t, os.WriteFile(h.config, text, 0o600))
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plugin runs the plugin as Guardian does. It fails the test if what comes out
// on standard error are not lager lines.
func (h *host) plugin(args ...string) (stdout string, code int) {
	h.t.Helper()
	cmd := exec.Command(programs.plugin, append([]string{"--config", h.config}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		code, err = ee.ExitCode(), nil
	}
	must(h.t, err)
	for line := range strings.Lines(errs.String()) {
		var l struct {
			Timestamp, Level, Source, Message string
			Data                              map[string]any
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Timestamp == "" || l.Level == "" ||
			!strings.HasPrefix(l.Message, "rootstock-plugin.") || l.Source != "rootstock-plugin" {
			h.t.Errorf("not a lager line: %q, %v", line, err)
		}
	}
	if all := out.String() + errs.String(); strings.Contains(all, "s3cret") {
		h.t.Errorf("a password is shown: %s", all)
	}
	return out.String(), code
}

// create returns the root directory and environment of a new container.
func (h *host) create(handle string, flags ...string) (root string, env []string) {
	h.t.Helper()
	out, code := h.plugin(append(append([]string{"create"}, flags...), uri, handle)...)
	var spec struct {
		OCIVersion string
		Root       struct{ Path string }
		Process    struct{ Env []string }
	}
	if err := json.Unmarshal([]byte(out), &spec); err != nil || code != 0 || spec.OCIVersion == "" {
		h.t.Fatalf("create: exit %d, %v: %s", code, err, out)
	}
	h.t.Cleanup(func() {
		if out, code := h.plugin("delete", handle); code != 0 || out != "" {
			h.t.Errorf("delete: exit %d: %s", code, out)
		}
		h.nothingLeft()
	})
	return spec.Root.Path, spec.Process.Env
}

func (h *host) nothingLeft() {
	h.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(h.t, err)
	if strings.Contains(string(mounts), h.store) {
		h.t.Error("something is still mounted below the store")
	}
	for _, dir := range []string{"containers", "records", "locks", "images", "releases"} {
		if left, err := os.ReadDir(filepath.Join(h.store, dir)); err == nil && len(left) > 0 {
			h.t.Errorf("%s still holds %v", dir, left)
		}
	}
	if pins := h.daemon.Pins(); len(pins) > 0 {
		h.t.Errorf("still pinned: %v", pins)
	}
}

func TestContract(t *testing.T) {
	h := newHost(t, nil)
	t.Run("create", func(t *testing.T) {
		root, env := h.create("h-1", "--username", "bob", "--password=s3cret")
		if want := filepath.Join(h.store, "containers", "h-1", "rootfs"); root != want {
			t.Errorf("root %s, want %s", root, want)
		}
		if got := strings.Join(env, " "); got != "PATH=/bin FROM_IMAGE=yes" {
			t.Errorf("env %s", got)
		}
		// What runc does first.
		must(t, os.WriteFile(filepath.Join(root, "tmp", "garden-init"), nil, 0o755))
		must(t, os.WriteFile(filepath.Join(root, "etc", "hosts"), nil, 0o644))
	})
	t.Run("again", func(t *testing.T) {
		out, code := h.plugin("create", uri, "h-1")
		if code != 1 || out != "image for id `h-1` already exists\n" {
			t.Errorf("exit %d: %q", code, out)
		}
	})
	t.Run("stats", func(t *testing.T) {
		out, code := h.plugin("stats", "h-1")
		var s struct {
			DiskUsage struct {
				Total     int64 `json:"total_bytes_used"`
				Exclusive int64 `json:"exclusive_bytes_used"`
			} `json:"disk_usage"`
		}
		err := json.Unmarshal([]byte(out), &s)
		if u := s.DiskUsage; err != nil || code != 0 || u.Exclusive <= 0 || u.Total != u.Exclusive+imageSize {
			t.Errorf("exit %d, %v: %s", code, err, out)
		}
		if out, code := h.plugin("stats", "unknown"); code != 1 || strings.Count(out, "\n") != 1 {
			t.Errorf("unknown handle: exit %d: %q", code, out)
		}
	})
	t.Run("capacity", func(t *testing.T) {
		out, code := h.plugin("capacity")
		var c struct{ Capacity int64 }
		if err := json.Unmarshal([]byte(out), &c); err != nil || code != 0 || c.Capacity < 1<<20 {
			t.Errorf("exit %d, %v: %s", code, err, out)
		}
	})
	t.Run("delete", func(t *testing.T) {
		for _, handle := range []string{"h-1", "h-1", "unknown", "no handle/../at all"} {
			if out, code := h.plugin("delete", handle); code != 0 || out != "" {
				t.Errorf("%s: exit %d: %s", handle, code, out)
			}
		}
		h.nothingLeft()
	})
	t.Run("collection", func(t *testing.T) {
		if out, code := h.plugin("gc"); code != 0 || out != "{\"cleaned\":[]}\n" {
			t.Errorf("exit %d: %s", code, out)
		}
	})
}

// A failure is one line on standard output, which users see.
func TestFailures(t *testing.T) {
	h := newHost(t, nil)
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"nothing":        {nil, "no command"},
		"other command":  {[]string{"explode"}, "explode"},
		"few arguments":  {[]string{"create", uri}, "takes 2 arguments"},
		"many arguments": {[]string{"create", "--password", "x", uri, "h", "s3cret"}, "takes 2 arguments"},
		"unknown flag":   {[]string{"--pasword=s3cret", "create", uri, "h"}, "--pasword"},
		"no value":       {[]string{"create", uri, "h", "--password"}, "--password"},
		"bad limit":      {[]string{"create", "--disk-limit-size-bytes", "s3cret", uri, "h"}, "number of bytes"},
		"bad switch":     {[]string{"create", "--exclude-image-from-quota=s3cret", uri, "h"}, "neither true nor false"},
		"docker":         {[]string{"create", "--password", "s3cret", "docker:///library/busybox", "h"}, "rootstock publish image"},
		"unknown tree":   {[]string{"create", "cvmfs://stacks/rootfs/other", "h"}, "cvmfs://stacks.example.org/rootfs/other"},
		"newline":        {[]string{"create", "cvmfs://stacks/rootfs/a\nb", "h"}, `a\nb`},
		"over limit":     {[]string{"create", "--disk-limit-size-bytes=100", uri, "h"}, "limit of 100 bytes"},
		"no such config": {[]string{"--config=/nowhere/c.json", "capacity"}, "/nowhere/c.json"},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			out, code := h.plugin(tc.args...)
			if code != 1 || strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") || !strings.Contains(out, tc.says) {
				t.Errorf("exit %d: %q", code, out)
			}
		})
	}
	h.t = t
	h.daemon.Stop()
	if out, code := h.plugin("create", uri, "h"); code != 1 || !strings.Contains(out, "rootstock-cell running") {
		t.Errorf("without daemon: exit %d: %q", code, out)
	}
	if out, code := h.plugin("delete", "unknown"); code != 0 || out != "" {
		t.Errorf("delete without daemon: exit %d: %q", code, out)
	}
}

// Fifty processes at a time, some for the same handle, as after a cell's
// restart.
func TestManyAtOnce(t *testing.T) {
	h := newHost(t, guardian)
	h.create("shared")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			handle := fmt.Sprintf("h%d", i)
			if out, code := h.plugin("create", uri, "shared"); code != 1 || !strings.Contains(out, "already exists") {
				t.Errorf("shared: exit %d: %s", code, out)
			}
			if out, code := h.plugin("create", "--disk-limit-size-bytes", "10000000", uri, handle); code != 0 {
				t.Errorf("%s: exit %d: %s", handle, code, out)
			}
			if out, code := h.plugin("delete", handle); code != 0 {
				t.Errorf("%s: exit %d: %s", handle, code, out)
			}
		})
	}
	wg.Wait()
}

// Creates and deletes of the same few handles at a time, as when rep gives up
// and asks again: each create works or finds the container there, each delete
// works, and in the end nothing is left.
func TestSameHandlesAtOnce(t *testing.T) {
	h := newHost(t, guardian)
	var wg sync.WaitGroup
	var made atomic.Int64
	for i := range 24 {
		wg.Go(func() {
			handle := fmt.Sprintf("h%d", i%3)
			args := []string{"create", uri, handle}
			if i%4 == 0 {
				args = append(args, "--disk-limit-size-bytes", "10000000")
			}
			for range 3 {
				switch out, code := h.plugin(args...); {
				case code == 0:
					made.Add(1)
				case !strings.Contains(out, "already exists"):
					t.Errorf("create %s: exit %d: %s", handle, code, out)
				}
				if out, code := h.plugin("delete", handle); code != 0 {
					t.Errorf("delete %s: exit %d: %s", handle, code, out)
				}
			}
		})
	}
	wg.Wait()
	if n := made.Load(); n < 3 {
		t.Errorf("only %d containers were made", n)
	}
	h.nothingLeft()
}
