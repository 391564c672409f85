package holder_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/holder"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/objects"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var silent = slog.New(slog.DiscardHandler)

// hold starts a holder; end stops it as SIGTERM does.
func hold(t *testing.T, socket string) (end func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root, so nothing can be held")
	}
	l, err := holder.Listen(socket)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- (&holder.Server{Patience: 100 * time.Millisecond, Log: silent}).Serve(ctx, l) }()
	done := false
	end = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("holder: %v", err)
		}
	}
	t.Cleanup(end)
	return end
}

func connect(t *testing.T, socket string) *holder.Client {
	t.Helper()
	c, err := holder.Connect(t.Context(), socket, silent)
	must(t, err)
	return c
}

func isFuse(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// A mount stays when its worker goes, and the next one gets it as it was.
func TestWorkersComeAndGo(t *testing.T) {
	socket, dir := filepath.Join(t.TempDir(), "s"), t.TempDir()
	end := hold(t, socket)
	c := connect(t, socket)
	if c.PID() != os.Getpid() || len(c.Mounts()) != 0 {
		t.Errorf("holder %d with %v", c.PID(), c.Mounts())
	}
	if _, err := c.Take(t.Context(), "a"); !errors.Is(err, holder.ErrNone) {
		t.Errorf("mount that is not there: %v", err)
	}
	h, err := c.Open(t.Context(), holder.Mount{Key: "a", Tag: "tag", Path: dir, FSName: "test"})
	must(t, err)
	if h.Init.Major != 7 || !h.Mounted || !isFuse(dir) {
		t.Errorf("%+v", h.Mount)
	}
	if _, err := c.Open(t.Context(), holder.Mount{Key: "a", Path: dir}); err == nil {
		t.Error("two mounts of one key")
	}
	h.Close()
	c.Close()

	c = connect(t, socket)
	if list := c.Mounts(); len(list) != 1 || list[0].Key != "a" || list[0].Tag != "tag" || !list[0].Mounted {
		t.Fatalf("%+v", list)
	}
	again, err := c.Take(t.Context(), "a")
	must(t, err)
	if again.Init != h.Init || again.Device != h.Device {
		t.Errorf("%+v, was %+v", again.Mount, h.Mount)
	}
	// It can be answered.
	f, err := objects.New(nil, objects.Options{Numbers: filepath.Join(t.TempDir(), "n")})
	must(t, err)
	conn, err := again.Adopt(f, fusefs.Options{NoXAttrs: true})
	must(t, err)
	again.Close()
	ctx, leave := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- conn.Serve(ctx) }()
	var st unix.Stat_t
	if err := unix.Stat(dir+"/ab", &st); err != nil || st.Mode != unix.S_IFDIR|0o555 {
		t.Errorf("%o, %v", st.Mode, err)
	}
	leave()
	must(t, <-served)
	if !isFuse(dir) {
		t.Error("the mount went with its worker")
	}
	must(t, unix.Unmount(dir, unix.MNT_DETACH))
	third, err := c.Take(t.Context(), "a")
	must(t, err)
	if third.Mounted {
		t.Error("somebody unmounted it, unseen")
	}
	third.Close()
	must(t, c.Drop(t.Context(), "a"))
	must(t, c.Drop(t.Context(), "a")) // is no error

	last, err := c.Open(t.Context(), holder.Mount{Key: "b", Path: dir})
	must(t, err)
	last.Close()
	c.Close()
	end()
	if isFuse(dir) {
		t.Error("a holder that ends leaves a mount")
	}
}

// There is one worker at a time.
func TestOneWorker(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	hold(t, socket)
	c := connect(t, socket)
	if _, err := holder.Connect(t.Context(), socket, silent); !errors.Is(err, holder.ErrBusy) {
		t.Errorf("a second worker: %v", err)
	}
	if _, err := holder.Listen(socket); err == nil || !strings.Contains(err.Error(), "another holder") {
		t.Errorf("a second holder: %v", err)
	}
	c.Close()
	connect(t, socket).Close()
	if _, err := holder.Connect(t.Context(), socket+"-", silent); err == nil || !strings.Contains(err.Error(), "rootstock-cell hold") {
		t.Errorf("no holder: %v", err)
	}
}

// A holder that comes back gets the mounts from the worker.
func TestHolderComesBack(t *testing.T) {
	socket, dir := filepath.Join(t.TempDir(), "s"), t.TempDir()
	l, err := holder.Listen(socket)
	must(t, err)
	// One that is killed unmounts nothing: its mounts are kept from it.
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- (&holder.Server{Log: silent}).Serve(ctx, l) }()
	c := connect(t, socket)
	defer c.Close()
	h, err := c.Open(t.Context(), holder.Mount{Key: "a", Tag: "tag", Path: dir})
	must(t, err)
	h.Close()
	under := filepath.Join(t.TempDir(), "kept")
	must(t, os.Mkdir(under, 0o700))
	must(t, unix.Mount(dir, under, "", unix.MS_BIND, ""))
	defer unix.Unmount(under, unix.MNT_DETACH)
	cancel()
	must(t, <-first)
	hold(t, socket)
	for deadline := time.Now().Add(30 * time.Second); c.PID() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the worker does not find the new holder")
		}
		time.Sleep(5 * time.Millisecond)
	}
	var got *holder.Held
	for deadline := time.Now().Add(30 * time.Second); got == nil; {
		if got, err = c.Take(t.Context(), "a"); err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if got.Tag != "tag" || got.Init != h.Init || got.Device != h.Device {
		t.Errorf("%+v, was %+v", got.Mount, h.Mount)
	}
	got.Close()
}

// What nonsense says is answered, or not, and harms nobody.
func TestNonsense(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	hold(t, socket)
	for _, text := range []string{"", "x", "{}", `{"op":"take","version":1}`, `{"op":"lease","version":2}`, `{"op":"give","version":1,"mount":{"key":"a"}}`, strings.Repeat("x", 70<<10)} {
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
		must(t, err)
		null, err := os.Open(os.DevNull)
		must(t, err)
		conn.WriteMsgUnix([]byte(text), unix.UnixRights(int(null.Fd()), int(null.Fd())), nil)
		null.Close()
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 1<<10)
		if n, _, _, _, err := conn.ReadMsgUnix(b, nil); err == nil && n > 0 && !strings.Contains(string(b[:n]), `"error"`) {
			t.Errorf("%.50q is answered %s", text, b[:n])
		}
		conn.Close()
	}
	connect(t, socket).Close()
}

// A mount that lost both its processes makes room for a new one; somebody else's
// does not.
func TestDeadMount(t *testing.T) {
	socket, dir := filepath.Join(t.TempDir(), "s"), t.TempDir()
	hold(t, socket)
	mount := func(kind string) {
		t.Helper()
		fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Mount("x", dir, kind, 0, "fd="+strconv.Itoa(fd)+",rootmode=40000,user_id=0,group_id=0"))
		unix.Close(fd)
	}
	c := connect(t, socket)
	defer c.Close()
	mount("fuse.rootstock")
	h, err := c.Open(t.Context(), holder.Mount{Key: "a", Path: dir})
	must(t, err)
	h.Close()
	must(t, c.Drop(t.Context(), "a"))
	mount("fuse.other")
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if _, err := c.Open(t.Context(), holder.Mount{Key: "a", Path: dir}); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("%v", err)
	}
}
