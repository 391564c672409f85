package fusefs_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// waiting is a view that leaves lookups of a name unanswered for as long as its
// deadline allows.
type waiting struct {
	tree.View
	asked chan struct{}
}

func (w *waiting) Lookup(ctx context.Context, parent view.Node, name string) (view.Node, view.Attr, error) {
	if name != "slow" {
		return w.View.Lookup(ctx, parent, name)
	}
	if ctx.Err() == nil {
		close(w.asked)
		<-ctx.Done()
	}
	return 0, view.Attr{}, context.Cause(ctx)
}

// What one process has read and not answered when it leaves, another answers:
// from the memory of requests in flight, or after the kernel sent it again.
func TestInherit(t *testing.T) {
	for name, noResend := range map[string]bool{"from memory": true, "resent": false} {
		t.Run(name, func(t *testing.T) {
			table, err := fusefs.NewInFlight()
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			o := fusefs.Options{Mountpoint: t.TempDir(), InFlight: table, Keep: true, NoResend: noResend, Readers: 1}
			fd, path, err := fusefs.OpenMount(o)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			defer abort(path)
			o.Mountpoint = path
			init, err := fusefs.Begin(fd, o)
			if err != nil {
				t.Fatal(err)
			}
			connect := func(v tree.View) (*fusefs.Conn, func()) {
				t.Helper()
				d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				f := tree.New(v, tree.Options{})
				conn, err := fusefs.Adopt(d, init, f, o)
				if err != nil {
					t.Fatal(err)
				}
				ctx, leave := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- conn.Serve(ctx) }()
				return conn, func() {
					leave()
					if err := <-served; err != nil {
						t.Error(err)
					}
					f.Close()
				}
			}
			first := &waiting{View: small(), asked: make(chan struct{})}
			begun, leave := connect(first)
			if !noResend {
				needResend(t, begun)
			}
			asking := exec.Command("stat", path+"/slow")
			asking.Env = append(os.Environ(), "LC_ALL=C")
			var said bytes.Buffer
			asking.Stderr = &said
			if err := asking.Start(); err != nil {
				t.Fatal(err)
			}
			<-first.asked
			leave()
			// The reader of the first one still waits for a request, which it
			// leaves to the second: a process that ends has no such reader.
			bystander := exec.Command("ls", path)
			if err := bystander.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			conn, leave := connect(small())
			if err := asking.Wait(); err == nil || !strings.Contains(said.String(), "No such file") {
				t.Errorf("stat of what is not there: %v, %s", err, &said)
			}
			if err := bystander.Wait(); err != nil {
				t.Errorf("ls: %v", err)
			}
			if got := conn.Stats().Inherited; (got > 0) != noResend {
				t.Errorf("%d requests came from memory", got)
			}
			if err := conn.Unmount(t.Context()); err != nil {
				t.Error(err)
			}
			leave()
		})
	}
}

// Memory that is not what it should be is refused, not mapped.
func TestInFlightOfOthers(t *testing.T) {
	fd, path, err := fusefs.OpenMount(fusefs.Options{Mountpoint: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	defer abort(path)
	other, err := fusefs.NewInFlight()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.WriteAt([]byte("something else"), 0); err != nil {
		t.Fatal(err)
	}
	if err := other.Truncate(0); err == nil {
		t.Error("it can be cut short under who has it mapped")
	}
	short, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer short.Close()
	for name, file := range map[string]*os.File{"of another release": other, "no such memory": short} {
		o := fusefs.Options{Mountpoint: path, InFlight: file}
		if _, err := fusefs.Adopt(fd, fusefs.Init{Major: 7, Minor: 45}, tree.New(small(), tree.Options{}), o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// A program that agrees on something else than the connection was begun with is
// refused before it answers a request.
func TestAdoptRefusesOtherCapabilities(t *testing.T) {
	fd, path, err := fusefs.OpenMount(fusefs.Options{Mountpoint: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	defer abort(path)
	init, err := fusefs.Begin(fd, fusefs.Options{Mountpoint: path})
	if err != nil {
		t.Fatal(err)
	}
	init.Agreed ^= fuse.CAP_READDIRPLUS_AUTO // as releases before began it
	c, err := fusefs.Adopt(fd, init, tree.New(small(), tree.Options{}), fusefs.Options{Mountpoint: path})
	if err != nil || c == nil {
		t.Errorf("one that only asks more often: %v", err)
	}
	init.Agreed ^= 1
	_, err = fusefs.Adopt(fd, init, tree.New(small(), tree.Options{}), fusefs.Options{Mountpoint: path})
	if err == nil || !strings.Contains(err.Error(), "capabilities") {
		t.Errorf("%v", err)
	}
}
