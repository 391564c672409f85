package tree_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

// mounted is a tree shown at dir.
type mounted struct {
	dir  string
	conn *fusefs.Conn
	fs   *tree.FS
}

// mount shows v until the test ends. The tree gets a file .poll, see quiet.
func mount(tb testing.TB, v *viewtest.Tree, o fusefs.Options) *mounted {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("SKIPPED: mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		tb.Skipf("SKIPPED: no FUSE on this machine: %v", err)
	}
	v.Add("/.poll", viewtest.File{Mode: 0o444})
	m := &mounted{dir: filepath.Join(tb.TempDir(), "mnt"), fs: tree.New(v, tree.Options{})}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	o.Mountpoint = m.dir
	o.Log = slog.New(slog.NewTextHandler(testLog{tb}, nil))
	conn, err := fusefs.Mount(context.Background(), m.fs, o)
	if err != nil {
		tb.Fatal(err)
	}
	m.conn = conn
	served := make(chan error, 1)
	go func() { served <- conn.Serve(context.Background()) }()
	tb.Cleanup(func() {
		v.SetHook(nil)
		if err := conn.Unmount(context.Background()); err != nil {
			tb.Errorf("unmount: %v", err)
		}
		if err := <-served; err != nil {
			tb.Errorf("serve: %v", err)
		}
		if err := m.fs.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
		if n := v.OpenContents(); n != 0 {
			tb.Errorf("%d contents left open", n)
		}
	})
	m.quiet(tb)
	return m
}

// quiet makes the kernel learn that there is no POLL here, which it asks once.
// The Go runtime polls every file it opens in a system call that the scheduler
// does not know of: with server and user in one process that can lock up.
func (m *mounted) quiet(tb testing.TB) {
	tb.Helper()
	fd, err := unix.Open(m.path("/.poll"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
		tb.Fatal(err)
	}
}

func (m *mounted) path(p string) string { return filepath.Join(m.dir, p) }

// testLog puts log lines where the test's own output is.
type testLog struct{ tb testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.tb.Logf("%s", p)
	return len(p), nil
}

// within fails the test if f does not return: a hang must not look like a slow
// machine, nor be one.
func within(tb testing.TB, what string, f func()) {
	tb.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		tb.Fatalf("%s: still not done after a minute", what)
	}
}
