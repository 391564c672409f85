package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// daemon implements both interfaces with functions a test may replace.
type daemon struct {
	lower      func(context.Context, control.LowerRequest) (control.Lower, error)
	release    func(context.Context, string) error
	status     func(context.Context) (any, error)
	containers func(context.Context) ([]control.Container, error)
}

func (d *daemon) Lower(ctx context.Context, r control.LowerRequest) (control.Lower, error) {
	return d.lower(ctx, r)
}
func (d *daemon) Release(ctx context.Context, handle string) error { return d.release(ctx, handle) }
func (d *daemon) Status(ctx context.Context) (any, error)          { return d.status(ctx) }
func (d *daemon) Containers(ctx context.Context) ([]control.Container, error) {
	return d.containers(ctx)
}

// start serves d until the test ends and returns its client.
func start(t testing.TB, d *daemon) *control.Client {
	t.Helper()
	c, stop := startStoppable(t, d)
	t.Cleanup(stop)
	return c
}

func startStoppable(t testing.TB, d *daemon) (c *control.Client, stop func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "cell.sock")
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &control.Server{Lowers: d, Reports: d}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	return &control.Client{Socket: socket}, sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

var ref = reference.Reference{Repository: "r.example.org", Kind: reference.Rootfs, Name: "jammy", Channel: "stable"}

func TestCalls(t *testing.T) {
	lower := control.Lower{
		Tree: strings.Repeat("ab", 32), Kind: reference.Rootfs, Name: "jammy", Version: "7",
		Lower: []string{"/run/a:b"}, Mapped: []string{"/run/c"}, Data: []string{"/cache"}, Options: []string{"metacopy=on"},
		Env: []string{"PATH=/bin"}, Bytes: 1 << 40, Entries: 44000,
	}
	request := control.LowerRequest{Ref: ref, Handle: "h-1", UIDMaps: []overlay.IDRange{{Host: 4294967294, Size: 1}}}
	held := []control.Container{{Handle: "h-1", Ref: ref, Tree: lower.Tree, Version: "7", Since: time.Unix(9, 0).UTC()}}
	var released string
	c := start(t, &daemon{
		lower: func(ctx context.Context, r control.LowerRequest) (control.Lower, error) {
			if !reflect.DeepEqual(r, request) {
				return control.Lower{}, fmt.Errorf("got %+v, want %+v", r, request)
			}
			if _, ok := ctx.Deadline(); !ok {
				return control.Lower{}, errors.New("no deadline")
			}
			return lower, nil
		},
		release:    func(_ context.Context, handle string) error { released = handle; return nil },
		status:     func(context.Context) (any, error) { return map[string]int{"holder_pid": 7}, nil },
		containers: func(context.Context) ([]control.Container, error) { return held, nil },
	})
	if got, err := c.Lower(t.Context(), request); err != nil || !reflect.DeepEqual(got, lower) {
		t.Errorf("Lower = %+v, %v", got, err)
	}
	if err := c.Release(t.Context(), "h-1"); err != nil || released != "h-1" {
		t.Errorf("Release: %v, released %q", err, released)
	}
	if doc, err := c.Status(t.Context()); err != nil || string(doc) != `{"holder_pid":7}` {
		t.Errorf("Status = %s, %v", doc, err)
	}
	if list, err := c.Containers(t.Context()); err != nil || !reflect.DeepEqual(list, held) {
		t.Errorf("Containers = %+v, %v", list, err)
	}
}

func TestErrorKinds(t *testing.T) {
	var fail error
	c := start(t, &daemon{release: func(context.Context, string) error { return fail }})
	for _, tc := range []struct {
		err, want error
	}{
		{fmt.Errorf("%w: rootfs jammy has no version 7", control.ErrNotFound), control.ErrNotFound},
		{fmt.Errorf("%w: no server answers", control.ErrUnavailable), control.ErrUnavailable},
		{fmt.Errorf("%w: no", control.ErrInvalid), control.ErrInvalid},
		{fmt.Errorf("%w: no", control.ErrDenied), control.ErrDenied},
		{fmt.Errorf("fetch: %w", context.DeadlineExceeded), control.ErrUnavailable},
		{errors.New("disk on fire"), control.ErrInternal},
	} {
		fail = tc.err
		err := c.Release(t.Context(), "h")
		if !errors.Is(err, tc.want) || err.Error() != tc.err.Error() {
			t.Errorf("daemon says %q, client %q; want kind %q", tc.err, err, tc.want)
		}
		for _, other := range []error{control.ErrNotFound, control.ErrUnavailable, control.ErrInvalid, control.ErrDenied, control.ErrInternal} {
			if !errors.Is(tc.want, other) && errors.Is(err, other) {
				t.Errorf("%q is also %q", err, other)
			}
		}
	}
	fail = errors.New(strings.Repeat("x", 1<<20))
	if err := c.Release(t.Context(), "h"); !errors.Is(err, control.ErrInternal) || len(err.Error()) > 5000 {
		t.Errorf("a message of 1 MiB came back with %d bytes as %T", len(err.Error()), err)
	}
}

// Whatever a client sends gets one line of answer, kind invalid, and the
// handler never runs.
func TestHostileRequests(t *testing.T) {
	c := start(t, &daemon{
		lower: func(context.Context, control.LowerRequest) (control.Lower, error) {
			return control.Lower{}, errors.New("the handler ran")
		},
		release: func(context.Context, string) error { return errors.New("the handler ran") },
	})
	for name, line := range map[string]string{
		"not JSON":         "hello\n",
		"empty":            "\n",
		"array":            "[]\n",
		"two values":       `{"call":"status"} {}` + "\n",
		"unknown call":     `{"call":"reboot"}` + "\n",
		"unknown field":    `{"call":"release","params":{"handle":"h","force":true}}` + "\n",
		"unknown envelope": `{"call":"release","user":"x","params":{"handle":"h"}}` + "\n",
		"no params":        `{"call":"release"}` + "\n",
		"slash":            `{"call":"release","params":{"handle":"../h"}}` + "\n",
		"dots":             `{"call":"release","params":{"handle":".."}}` + "\n",
		"climbing ref":     `{"call":"lower","params":{"handle":"h","ref":"rootfs/../x"}}` + "\n",
		"second line":      `{"call":"release","params":{"handle":"h"}}` + "\n{}\n",
		"too long":         `{"call":"` + strings.Repeat("x", control.MaxRequest) + `"}` + "\n",
		"endless line":     strings.Repeat(" ", control.MaxRequest),
		"deep":             `{"params":` + strings.Repeat("[", 30000) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", c.Socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Write([]byte(line)) //nolint:errcheck // the server may have hung up
			var a struct {
				Error struct{ Kind, Message string }
			}
			if err := json.NewDecoder(conn).Decode(&a); err != nil || a.Error.Kind != "invalid" {
				t.Errorf("answer %+v, %v", a, err)
			}
		})
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c := start(t, &daemon{status: func(context.Context) (any, error) {
		return strings.Repeat("x", control.MaxAnswer), nil
	}})
	if doc, err := c.Status(t.Context()); !errors.Is(err, control.ErrInternal) {
		t.Errorf("Status = %d bytes, %v", len(doc), err)
	}
	// A daemon that does not keep to it.
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}()
	c = &control.Client{Socket: socket}
	if _, err := c.Status(t.Context()); !errors.Is(err, control.ErrInternal) || !strings.Contains(err.Error(), "line too long") {
		t.Errorf("an endless answer: %v", err)
	}
}

// The deadline of the client's context ends the call on both sides, and so
// does the server's own bound.
func TestDeadline(t *testing.T) {
	ended := make(chan error, 1)
	c := start(t, &daemon{release: func(ctx context.Context, _ string) error {
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}})
	c.Timeout = 50 * time.Millisecond
	if err := c.Release(t.Context(), "h"); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("client: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the daemon's context did not end")
	}
}

func TestClientGoesAway(t *testing.T) {
	running, ended := make(chan struct{}), make(chan struct{})
	c := start(t, &daemon{release: func(ctx context.Context, _ string) error {
		close(running)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-running
		cancel()
	}()
	if err := c.Release(ctx, "h"); !errors.Is(err, context.Canceled) {
		t.Errorf("client: %v", err)
	}
	<-ended
}

func TestStopEndsCalls(t *testing.T) {
	running := make(chan struct{})
	c, stop := startStoppable(t, &daemon{release: func(ctx context.Context, _ string) error {
		close(running)
		<-ctx.Done()
		return ctx.Err()
	}})
	silent, err := net.Dial("unix", c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	failed := make(chan error, 1)
	go func() { failed <- c.Release(t.Context(), "h") }()
	<-running
	stop()
	if err := <-failed; !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("call under way: %v", err)
	}
	if err := c.Release(t.Context(), "h"); !errors.Is(err, control.ErrUnavailable) || !strings.Contains(err.Error(), c.Socket) {
		t.Errorf("call to a stopped daemon: %v", err)
	}
	if _, err := os.Lstat(c.Socket); !os.IsNotExist(err) {
		t.Errorf("socket left behind: %v", err)
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	c := start(t, &daemon{lower: func(_ context.Context, r control.LowerRequest) (control.Lower, error) {
		return control.Lower{Tree: r.Handle}, nil
	}})
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			h := fmt.Sprintf("h%d", i)
			if l, err := c.Lower(t.Context(), control.LowerRequest{Ref: ref, Handle: h}); err != nil || l.Tree != h {
				t.Errorf("Lower(%s) = %+v, %v", h, l, err)
			}
		})
	}
	wg.Wait()
}

// asUser runs f on a thread of another user, which is then thrown away.
func asUser(t *testing.T, uid uintptr, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: changing the user of a thread needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
			t.Errorf("setresuid: %v", errno)
			return
		}
		f()
	}()
	<-done
}

func TestStrangersAreRefused(t *testing.T) {
	c := start(t, &daemon{status: func(context.Context) (any, error) { return "secret", nil }})
	if fi, err := os.Stat(c.Socket); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", fi.Mode(), err)
	}
	for d := c.Socket; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	asUser(t, 65534, func() {
		conn, err := net.Dial("unix", c.Socket)
		if err != nil {
			t.Errorf("dial: %v", err)
			return
		}
		defer conn.Close()
		var a struct{ Error struct{ Kind string } }
		if err := json.NewDecoder(conn).Decode(&a); err != nil || a.Error.Kind != "denied" {
			t.Errorf("answer %+v, %v", a, err)
		}
	})
}

// A socket that somebody else put there is not believed.
func TestStrangeDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "s")
	var l net.Listener
	asUser(t, 65534, func() {
		var err error
		if l, err = net.Listen("unix", socket); err != nil {
			t.Error(err)
		}
	})
	if l == nil {
		t.FailNow()
	}
	defer l.Close()
	c := &control.Client{Socket: socket}
	if _, err := c.Status(t.Context()); !errors.Is(err, control.ErrDenied) {
		t.Errorf("Status: %v", err)
	}
}

func TestListen(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a", "b", "cell.sock")
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(socket); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("second daemon: %v", err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if l, err = control.Listen(socket); err != nil {
		t.Errorf("stale socket: %v", err)
	} else {
		l.Close()
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(socket); err == nil {
		t.Error("a plain file was replaced")
	}
}

func TestCheckHandle(t *testing.T) {
	for _, h := range []string{"a", "3f0e-uuid", "a:b,c\\d", strings.Repeat("x", control.MaxHandle), "-x", "a..b"} {
		if err := control.CheckHandle(h); err != nil {
			t.Errorf("CheckHandle(%q): %v", h, err)
		}
	}
	for _, h := range []string{"", ".", "..", ".a", "a/b", "/", "a b", "a\n", "a\x00", "ä", strings.Repeat("x", control.MaxHandle+1)} {
		if err := control.CheckHandle(h); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("CheckHandle(%q): %v", h, err)
		}
	}
}

func BenchmarkRelease(b *testing.B) {
	c := start(b, &daemon{release: func(context.Context, string) error { return nil }})
	for b.Loop() {
		if err := c.Release(b.Context(), "h"); err != nil {
			b.Fatal(err)
		}
	}
}
