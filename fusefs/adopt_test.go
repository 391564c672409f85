package fusefs_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
)

// abort ends a mount and whatever waits for it. A thread that waits for a device
// which its own process holds could never end otherwise, nor could the process.
func abort(path string) {
	_ = unix.Unmount(path, unix.MNT_FORCE)
	_ = unix.Unmount(path, unix.MNT_DETACH)
}

func needResend(t *testing.T, c *fusefs.Conn) {
	t.Helper()
	if err := c.Resend(); errors.Is(err, fusefs.ErrNoResend) {
		if strings.Contains(os.Getenv("ROOTSTOCK_TEST_KERNEL"), "resend=yes") {
			t.Fatalf("this kernel is known to send again: %v", err)
		}
		t.Skipf("SKIPPED: %v (Linux 6.9): requests in flight are found in memory only", err)
	}
}

// A process mounts, begins, reads a request and dies. Its successor has the
// device, what it said when it began, and a file system with the same ids.
func TestAdopt(t *testing.T) {
	o := fusefs.Options{Mountpoint: t.TempDir()}
	v := small()
	fd, path, err := fusefs.OpenMount(o)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd) // the holder's
	defer abort(path)
	o.Mountpoint = path

	dup := func() int {
		t.Helper()
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	died := dup()
	first, err := fusefs.Adopt(died, fusefs.Init{}, tree.New(v, tree.Options{}), o)
	if err != nil {
		t.Fatal(err)
	}
	needResend(t, first)
	said, err := json.Marshal(first.Init()) // as a holder keeps it
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		var st unix.Stat_t
		answered <- unix.Stat(path+"/file", &st)
	}()
	lost := make([]byte, 1<<16)
	if n, err := unix.Read(died, lost); err != nil || n == 0 {
		t.Fatalf("request of %d bytes, %v", n, err)
	}
	unix.Close(died)

	var init fusefs.Init
	if err := json.Unmarshal(said, &init); err != nil {
		t.Fatal(err)
	}
	f := tree.New(v, tree.Options{})
	defer f.Close()
	second, err := fusefs.Adopt(dup(), init, f, o)
	if err != nil {
		t.Fatal(err)
	}
	if second.Init() != first.Init() {
		t.Errorf("%+v was made of %+v", second.Init(), first.Init())
	}
	served := make(chan error, 1)
	go func() { served <- second.Serve(t.Context()) }()
	if err := <-answered; err != nil {
		t.Errorf("request read by one and answered by the other: %v", err)
	}
	if entries, err := os.ReadDir(path); err != nil || len(entries) != 2 {
		t.Errorf("listing: %v, %v", entries, err)
	}
	if err := second.Unmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestAdoptRefusesWhatIsNoDevice(t *testing.T) {
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, fd := range []int{int(null.Fd()), -1} {
		if _, err := fusefs.Adopt(fd, fusefs.Init{}, tree.New(small(), tree.Options{}), fusefs.Options{}); err == nil {
			t.Errorf("file descriptor %d was adopted", fd)
		}
	}
}

func TestAdoptRefusesAnotherProtocol(t *testing.T) {
	fd, path, err := fusefs.OpenMount(fusefs.Options{Mountpoint: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	defer abort(path)
	_, err = fusefs.Adopt(fd, fusefs.Init{Major: 8, Minor: 1}, tree.New(small(), tree.Options{}), fusefs.Options{Mountpoint: path})
	if err == nil || !strings.Contains(err.Error(), "8.1") {
		t.Errorf("%v, want the version named", err)
	}
}
