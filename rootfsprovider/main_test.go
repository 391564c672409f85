package rootfsprovider_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/control/controltest"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

const (
	uri       = "cvmfs://r.example.org/rootfs/test"
	imageSize = 5 << 20
)

// guardian maps root alone elsewhere (docs/garden.md 2).
var guardian = []overlay.IDRange{{Container: 0, Host: 4294967294, Size: 1}, {Container: 1, Host: 1, Size: 4294967293}}

// cell is a host with a daemon and a store.
type cell struct {
	t      testing.TB
	daemon *controltest.Daemon
	lower  string
	conf   rootfsprovider.Config
}

func newCell(t testing.TB) *cell {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	dir := t.TempDir()
	c := &cell{t: t, lower: filepath.Join(dir, "lower")}
	c.mkdir(c.lower, 0o755)
	for _, d := range []string{"etc", "bin", "tmp", "home"} {
		c.mkdir(filepath.Join(c.lower, d), 0o755)
	}
	c.write("lower text", c.lower, "etc", "file")
	c.write("users", c.lower, "home", "vcap")
	must(t, os.Chown(filepath.Join(c.lower, "home", "vcap"), 1000, 1000))
	c.daemon = controltest.Start(t, map[string]control.Lower{
		uri:             controltest.Tree(c.lower, "7", imageSize),
		uri + "-gone":   controltest.Tree(filepath.Join(dir, "not there"), "7", imageSize),
		uri + "-odd":    {Lower: []string{"relative"}},
		uri + "-option": {Lower: []string{c.lower}, Options: []string{"upperdir=/etc"}},
		uri + "-none":   {},
	})
	c.conf = rootfsprovider.Config{Store: filepath.Join(dir, "store"), Socket: c.daemon.Socket, LogLevel: "info"}
	t.Cleanup(func() { // whatever a failed test left mounted
		_, err := c.provider().GC(context.Background())
		must(t, err)
		left, err := os.ReadDir(filepath.Join(c.conf.Store, "containers"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		for _, e := range left {
			must(t, c.provider().Delete(context.Background(), e.Name()))
		}
	})
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cell) provider() *rootfsprovider.Provider {
	return rootfsprovider.New(c.conf, &control.Client{Socket: c.conf.Socket}, slog.New(slog.DiscardHandler))
}

func (c *cell) mkdir(path string, mode os.FileMode) {
	c.t.Helper()
	must(c.t, os.MkdirAll(path, mode))
}

func (c *cell) write(text string, parts ...string) {
	c.t.Helper()
	must(c.t, os.WriteFile(filepath.Join(parts...), []byte(text), 0o644))
}

func (c *cell) create(handle string) rootfsprovider.Spec {
	c.t.Helper()
	spec, err := c.provider().Create(c.t.Context(), rootfsprovider.Request{URI: uri, Handle: handle})
	must(c.t, err)
	return spec
}

// clean reports whatever is left of any container.
func (c *cell) clean() {
	c.t.Helper()
	if pins := c.daemon.Pins(); len(pins) > 0 {
		c.t.Errorf("still pinned: %v", pins)
	}
	for _, problem := range c.leftovers() {
		c.t.Error(problem)
	}
}

func (c *cell) leftovers() (left []string) {
	err := filepath.WalkDir(c.conf.Store, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if filepath.Dir(filepath.Dir(path)) == c.conf.Store {
			left = append(left, "left behind: "+path)
			if e.IsDir() {
				return fs.SkipDir
			}
		}
		return nil
	})
	if err != nil {
		left = append(left, err.Error())
	}
	return append(left, c.kernelLeftovers()...)
}

// kernelLeftovers finds mounts and loop devices below the store.
func (c *cell) kernelLeftovers() (left []string) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(c.t, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, c.conf.Store) {
			left = append(left, "still mounted: "+line)
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(c.t, err)
	for _, b := range backing {
		if text, err := os.ReadFile(b); err == nil && strings.HasPrefix(string(text), c.conf.Store) {
			left = append(left, fmt.Sprintf("still bound: %s to %s", b, text))
		}
	}
	return left
}

func owner(t testing.TB, path string) (uid, gid uint32) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st.Uid, st.Gid
}
