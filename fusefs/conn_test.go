package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

// mounted is a connection and what it has logged.
type mounted struct {
	dir    string
	conn   *fusefs.Conn
	log    *record
	served chan error
}

// record keeps log lines.
type record struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.String()
}

func mount(t *testing.T, v *viewtest.Tree, o fusefs.Options) *mounted {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("SKIPPED: no FUSE on this machine: %v", err)
	}
	m := &mounted{dir: filepath.Join(t.TempDir(), "mnt"), log: &record{}, served: make(chan error, 1)}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o.Mountpoint = m.dir
	o.Log = slog.New(slog.NewTextHandler(m.log, nil))
	f := tree.New(v, tree.Options{})
	conn, err := fusefs.Mount(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	m.conn = conn
	go func() { m.served <- conn.Serve(context.Background()) }()
	t.Cleanup(func() {
		v.SetHook(nil)
		if err := conn.Unmount(context.Background()); err != nil {
			t.Errorf("unmount: %v", err)
		}
		conn.Wait()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *mounted) path(p string) string { return filepath.Join(m.dir, p) }

// stat is lstat without Go's retrying of EINTR, and without the Go runtime's
// polling of files.
func (m *mounted) stat(p string) error {
	var st unix.Stat_t
	return unix.Lstat(m.path(p), &st)
}

func (m *mounted) read(p string) ([]byte, error) {
	fd, err := unix.Open(m.path(p), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 1<<16)
	n, err := unix.Pread(fd, buf, 0)
	return buf[:max(n, 0)], err
}

// waits is a hook that makes operations wait until their context ends, as a
// fetch from a dead server does, and tells of each.
func waits(ops ...viewtest.Op) (hook viewtest.Hook, began chan struct{}) {
	began = make(chan struct{}, 1000)
	return func(ctx context.Context, op viewtest.Op, _ view.Node) error {
		for _, o := range ops {
			if op == o && ctx.Err() == nil {
				began <- struct{}{}
				<-ctx.Done()
			}
			if op == o {
				return fmt.Errorf("fetch: %w", ctx.Err())
			}
		}
		return nil
	}, began
}

func small() *viewtest.Tree {
	v := viewtest.New()
	v.Add("/dir/file", viewtest.File{Data: []byte("content")})
	v.Add("/file", viewtest.File{Data: []byte("content")})
	return v
}

func TestDeadlineIsEIO(t *testing.T) {
	v := small()
	for _, op := range []viewtest.Op{viewtest.OpOpen, viewtest.OpRead, viewtest.OpLookup} {
		v.Add("/dir/"+string(op), viewtest.File{Data: []byte("content")})
	}
	m := mount(t, v, fusefs.Options{Deadline: 50 * time.Millisecond})
	for _, op := range []viewtest.Op{viewtest.OpLookup, viewtest.OpOpen, viewtest.OpRead} {
		hook, _ := waits(op)
		v.SetHook(hook)
		if _, err := m.read("/dir/" + string(op)); err != unix.EIO {
			t.Errorf("%s that never ends: %v, want EIO", op, err)
		}
		v.SetHook(nil)
		if got, err := m.read("/dir/" + string(op)); err != nil || string(got) != "content" {
			t.Errorf("%s once it works again: %q, %v", op, got, err)
		}
	}
	if s := m.conn.Stats(); s.Abandoned != 0 || s.Failures == 0 {
		t.Errorf("handlers that keep to their context: %+v", s)
	}
	if log := m.log.String(); !strings.Contains(log, "op=lookup") || !strings.Contains(log, "deadline exceeded") {
		t.Errorf("log does not say what failed: %s", log)
	}
}

// A handler may be deaf to its context, for instance in a read from a broken
// disk. Its caller is answered all the same, and so are all others.
func TestDeafHandler(t *testing.T) {
	v := small()
	m := mount(t, v, fusefs.Options{Deadline: 50 * time.Millisecond, Grace: 50 * time.Millisecond, Waiting: 1})
	goOn := make(chan struct{})
	v.SetHook(func(ctx context.Context, op viewtest.Op, _ view.Node) error {
		if op == viewtest.OpOpen {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			<-goOn
		}
		return nil
	})
	if _, err := m.read("/file"); err != unix.EIO {
		t.Errorf("deaf handler: %v, want EIO", err)
	}
	// The only goroutine is taken: the next stands in line past its deadline.
	if _, err := m.read("/dir/file"); err != unix.EIO {
		t.Errorf("request behind it: %v, want EIO", err)
	}
	if err := m.stat("/dir/absent"); err != unix.ENOENT {
		t.Errorf("request that need not wait: %v, want ENOENT", err)
	}
	if n := m.conn.Stats().Abandoned; n < 2 {
		t.Errorf("%d abandoned requests, want 2", n)
	}
	close(goOn)
}

func TestInterrupt(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("SKIPPED: no python3 to be interrupted")
	}
	// The signal's handler raises, so that Python does not retry.
	const script = `import os,signal,sys
def h(*a): raise InterruptedError
signal.signal(signal.SIGALRM,h)
try: os.stat(sys.argv[1]); print("stat returned")
except InterruptedError: print("interrupted")
except OSError as e: print(e)`
	for _, waiting := range []int{64, 1} {
		t.Run(fmt.Sprintf("%d goroutines", waiting), func(t *testing.T) {
			v := small()
			// No help from the clock.
			m := mount(t, v, fusefs.Options{Waiting: waiting, Deadline: 10 * time.Minute, Grace: 10 * time.Minute})
			hook, began := waits(viewtest.OpLookup)
			v.SetHook(hook)
			var first *exec.Cmd
			if waiting == 1 { // takes the only goroutine
				first = exec.Command(python, "-c", script, m.path("/file"))
				if err := first.Start(); err != nil {
					t.Fatal(err)
				}
				<-began
			}
			var out bytes.Buffer
			cmd := exec.Command(python, "-c", script, m.path("/dir"))
			cmd.Stdout = &out
			before := m.conn.Stats().Waiting
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for m.conn.Stats().Waiting == before {
				time.Sleep(time.Millisecond)
			}
			if err := cmd.Process.Signal(unix.SIGALRM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil || out.String() != "interrupted\n" {
				t.Errorf("%q, %v; want interrupted", out.String(), err)
			}
			if n := m.conn.Stats().Interrupts; n != 1 {
				t.Errorf("%d interrupts", n)
			}
			if first != nil { // SIGKILL interrupts too
				if err := first.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = first.Wait() // says killed
			}
		})
	}
}

// A slow request holds up no other, not even many slow ones, nor with a single
// reader, which then is never idle when it has a request.
func TestOthersGoOnWhileSomeWait(t *testing.T) {
	for _, readers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d readers", readers), func(t *testing.T) { othersGoOn(t, readers) })
	}
}

func othersGoOn(t *testing.T, readers int) {
	v := small()
	for i := range 200 {
		v.Add(fmt.Sprintf("/slow/%d", i), viewtest.File{Data: []byte("x")})
	}
	m := mount(t, v, fusefs.Options{Waiting: 8, Readers: readers, Deadline: 10 * time.Minute})
	slow, err := v.Node("/slow")
	if err != nil {
		t.Fatal(err)
	}
	goOn := make(chan struct{})
	running, most := 0, 0
	var mu sync.Mutex
	v.SetHook(func(ctx context.Context, op viewtest.Op, n view.Node) error {
		if op != viewtest.OpLookup || n != slow {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		<-goOn
		mu.Lock()
		running--
		mu.Unlock()
		return nil
	})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if err := m.stat(fmt.Sprintf("/slow/%d", i)); err != nil {
				t.Errorf("slow request: %v", err)
			}
		})
	}
	for m.conn.Stats().Waiting < 200 {
		time.Sleep(time.Millisecond)
	}
	for range 20 {
		if got, err := m.read("/dir/file"); err != nil || string(got) != "content" {
			t.Errorf("another request: %q, %v", got, err)
		}
		if err := m.conn.InvalInode(fileID(t, v, "/dir/file"), 0, 0); err != nil {
			t.Error(err)
		}
	}
	if n := m.conn.Stats().Waiting; n != 200 {
		t.Errorf("%d requests had to wait, want the 200 slow ones", n)
	}
	close(goOn)
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if most != 8 {
		t.Errorf("%d handlers at a time, want 8", most)
	}
}

// fileID is the protocol's id of a node, as package tree makes it.
func fileID(t *testing.T, v *viewtest.Tree, path string) uint64 {
	t.Helper()
	n, err := v.Node(path)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(n) + 2
}

func TestPanicIsEIO(t *testing.T) {
	v := small()
	m := mount(t, v, fusefs.Options{})
	for _, inline := range []bool{true, false} {
		v.SetHook(func(ctx context.Context, _ viewtest.Op, _ view.Node) error {
			if !inline && ctx.Err() != nil {
				return ctx.Err()
			}
			panic("a bug")
		})
		if err := m.stat("/dir"); err != unix.EIO {
			t.Errorf("inline %v: %v, want EIO", inline, err)
		}
	}
	v.SetHook(nil)
	if err := m.stat("/dir"); err != nil {
		t.Errorf("after the panics: %v", err)
	}
	if log := m.log.String(); m.conn.Stats().Panics != 2 || !strings.Contains(log, "a bug") || !strings.Contains(log, "goroutine") {
		t.Errorf("%d panics counted; log: %s", m.conn.Stats().Panics, log)
	}
}

// "Does not exist" is an answer to a lookup, and remembered. From anywhere else
// it is a failure.
func TestMissingContentIsNotMissingFile(t *testing.T) {
	v := small()
	m := mount(t, v, fusefs.Options{})
	v.SetHook(func(_ context.Context, op viewtest.Op, _ view.Node) error {
		if op == viewtest.OpOpen {
			return &os.PathError{Op: "open", Path: "cache/ab/cd", Err: unix.ENOENT}
		}
		return nil
	})
	if _, err := m.read("/file"); err != unix.EIO {
		t.Errorf("%v, want EIO", err)
	}
}

// A cancellation that was not this request's is no interrupt.
func TestForeignCancellationIsEIO(t *testing.T) {
	v := small()
	m := mount(t, v, fusefs.Options{})
	v.SetHook(func(_ context.Context, op viewtest.Op, _ view.Node) error {
		return fmt.Errorf("someone else's: %w", context.Canceled)
	})
	if err := m.stat("/file"); err != unix.EIO {
		t.Errorf("%v, want EIO", err)
	}
}

func TestUnmountWhileBusy(t *testing.T) {
	v := small()
	m := mount(t, v, fusefs.Options{})
	fd, err := unix.Open(m.path("/file"), unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no patience
	if err := m.conn.Unmount(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.stat("/file"); err != unix.ENOENT {
		t.Errorf("new user of a detached mount: %v, want ENOENT", err)
	}
	buf := make([]byte, 10)
	if n, err := unix.Pread(fd, buf, 0); err != nil || string(buf[:n]) != "content" {
		t.Errorf("old user of a detached mount: %q, %v", buf[:max(n, 0)], err)
	}
	select {
	case err := <-m.served:
		t.Errorf("Serve returned before the last user left: %v", err)
	default:
	}
	if log := m.log.String(); !strings.Contains(log, "busy") {
		t.Errorf("log does not say so: %s", log)
	}
	unix.Close(fd)
	if err := <-m.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A request that waits keeps the mount alive, but not longer than its deadline.
func TestUnmountWhileSomeoneWaits(t *testing.T) {
	v := small()
	m := mount(t, v, fusefs.Options{Deadline: 200 * time.Millisecond})
	hook, began := waits(viewtest.OpLookup)
	v.SetHook(hook)
	failed := make(chan error, 1)
	go func() { failed <- m.stat("/file") }()
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.conn.Unmount(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.conn.Unmount(t.Context()); err != nil {
		t.Errorf("second unmount: %v", err)
	}
	if err := <-failed; err != unix.EIO {
		t.Errorf("request under way: %v, want EIO", err)
	}
	if err := <-m.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeUnmountsWhenItsContextEnds(t *testing.T) {
	dir := t.TempDir()
	f := tree.New(small(), tree.Options{})
	defer f.Close()
	conn, err := fusefs.Mount(t.Context(), f, fusefs.Options{Mountpoint: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- conn.Serve(ctx) }()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || bytes.Contains(mounts, []byte(dir)) {
		t.Errorf("still mounted, or %v", err)
	}
}

func TestUnmountTakesOnlyItsOwn(t *testing.T) {
	m := mount(t, small(), fusefs.Options{})
	if err := unix.Mount("tmpfs", m.dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.conn.Unmount(ctx); !errors.Is(err, fusefs.ErrNotOurs) {
		t.Errorf("unmount below another mount: %v, want %v", err, fusefs.ErrNotOurs)
	}
	if err := unix.Unmount(m.dir, 0); err != nil {
		t.Fatalf("the other mount is gone: %v", err)
	}
}

func TestUnmountedByHand(t *testing.T) {
	m := mount(t, small(), fusefs.Options{})
	if err := unix.Unmount(m.dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.conn.Unmount(t.Context()); err != nil {
		t.Errorf("unmount of what is gone: %v", err)
	}
	if err := <-m.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := m.conn.InvalEntry(1, "x"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("notification after the end: %v, want ENODEV", err)
	}
}
