package shift_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/rootstock-cf/rootstock/cell/holder"
	"github.com/rootstock-cf/rootstock/cell/shift"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

// hold starts a holder until the test ends.
func hold(t *testing.T) (socket string) {
	t.Helper()
	needRoot(t)
	socket = filepath.Join(t.TempDir(), "s")
	l, err := holder.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- (&holder.Server{Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// worker is one process after the other.
func worker(t *testing.T, socket, dir, tag string, v *viewtest.Tree) (m *shift.Mounts, end func()) {
	t.Helper()
	h, err := holder.Connect(t.Context(), socket, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if m, err = shift.New(shift.Options{Dir: dir, Name: "test", View: v, Holder: h, Tag: tag}); err != nil {
		t.Fatal(err)
	}
	if err := m.Resume(t.Context(), []view.Node{v.Root()}); err != nil {
		t.Fatal(err)
	}
	return m, func() { m.Close(); h.Close() }
}

// What a container stands on is gone on with by the next process. That it answers
// takes another process to see, for the readers of this one are still there:
// e2e/fault has that.
func TestHeld(t *testing.T) {
	socket, dir, v := hold(t), filepath.Join(t.TempDir(), "ids"), viewtest.New()
	v.Add("/file", viewtest.File{Mode: regular | 0o640, UID: 1000, Data: []byte("text")})
	m, end := worker(t, socket, dir, "one", v)
	at := get(t, m, high)
	if got := stat(t, at+"/file"); got != "101000:100000" {
		t.Errorf("owner %s", got)
	}
	end()
	if n := mountsBelow(t, dir); n != 1 {
		t.Fatalf("%d mounts while nobody answers", n)
	}
	m, end = worker(t, socket, dir, "one", v)
	if n, _ := m.Stats(); n != 1 {
		t.Errorf("%d mounts", n)
	}
	if got := get(t, m, high); got != at || mountsBelow(t, dir) != 1 {
		t.Errorf("mounted at %s instead of %s", got, at)
	}
	end()

	// The repository's mount was made anew: its nodes mean something else.
	_, end = worker(t, socket, dir, "two", v)
	if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) || mountsBelow(t, dir) != 0 {
		t.Errorf("a mount with other nodes: %v", err)
	}
	end()
}
