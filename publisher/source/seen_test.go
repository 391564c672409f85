package source_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/publisher/seen"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// later is a memory whose clock is an hour ahead, so that files the test has
// just written are old.
func later(t *testing.T) *seen.Dir {
	t.Helper()
	return seen.Open(t.TempDir(), seen.Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
}

func openRootfs(t *testing.T, path string, d *seen.Dir) *source.Source {
	t.Helper()
	o := quick(t)
	o.Seen = d
	s, err := source.OpenRootfs(context.Background(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRootfsIsRemembered(t *testing.T) {
	b := makeTar(t, "a", 100_000)
	packed := filter(t, b, "gzip", "-1")
	path := save(t, "x.tar.gz", packed)
	d := later(t)
	first := openRootfs(t, path, d)
	if first.Digest != "" || first.Layers[0].DiffID() != "" {
		t.Errorf("known before it was ever read: %s", first.Digest)
	}
	if in, err := first.Layers[0].Open(context.Background()); err != nil { // not to its end
		t.Fatal(err)
	} else if _, err := in.Read(make([]byte, 10)); err != nil || in.Close() != nil {
		t.Fatal(err)
	}
	if s := openRootfs(t, path, d); s.Digest != "" {
		t.Error("a file that was not read to its end is known")
	}
	if _, err := readLayer(first.Layers[0]); err != nil {
		t.Fatal(err)
	}
	again := openRootfs(t, path, d)
	if again.Digest != digest(packed) || again.Layers[0].DiffID() != digest(b) {
		t.Errorf("digest %q, diff id %q", again.Digest, again.Layers[0].DiffID())
	}
	if got, err := readLayer(again.Layers[0]); err != nil || digest(got) != digest(b) { // and it can be read after all
		t.Errorf("read again: %v", err)
	}
	if err := os.WriteFile(path, filter(t, b, "gzip", "-9"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := openRootfs(t, path, d); s.Digest != "" {
		t.Error("a changed file is known")
	}
}

// A file that changes while it is read is not remembered, even if nothing else
// noticed.
func TestRootfsChangesState(t *testing.T) {
	path := save(t, "x.tar", makeTar(t, "a", 3_000_000))
	d := later(t)
	s := openRootfs(t, path, d)
	in, err := s.Layers[0].Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil { // moves the change time
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for err == nil {
		_, err = in.Read(buf)
	}
	in.Close() //nolint:errcheck // read to its end
	if s := openRootfs(t, path, d); s.Digest != "" {
		t.Error("it is known")
	}
}

// The memory can be wrong where a disk was written to behind the file system's
// back. Whoever reads then finds out.
func TestRootfsIsNotWhatItWas(t *testing.T) {
	path := save(t, "x.tar", makeTar(t, "a", 1000))
	d := later(t)
	state := func() seen.State {
		i, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := seen.StateOf(path, i)
		return s
	}
	d.KeepFile(state(), time.Now().Add(time.Hour), seen.Digests{Digest: "sha256:1", DiffID: "sha256:2"})
	s := openRootfs(t, path, d)
	if s.Digest != "sha256:1" {
		t.Fatalf("digest %q", s.Digest)
	}
	if _, err := readLayer(s.Layers[0]); !errors.Is(err, source.ErrDigest) || !strings.Contains(err.Error(), "--verify-source") {
		t.Errorf("got %v", err)
	}
}

// A remembered link points elsewhere: it is the file behind that counts.
func TestRootfsBehindALink(t *testing.T) {
	one, two := save(t, "one.tar", makeTar(t, "a", 1000)), save(t, "two.tar", makeTar(t, "a", 1000))
	link := filepath.Join(t.TempDir(), "latest.tar")
	d := later(t)
	for _, to := range []string{one, two} {
		unix.Unlink(link) //nolint:errcheck // not there at first
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		s := openRootfs(t, link, d)
		if s.Digest != "" {
			t.Errorf("%s is known", to)
		}
		if _, err := readLayer(s.Layers[0]); err != nil {
			t.Fatal(err)
		}
	}
	if s := openRootfs(t, link, d); s.Digest == "" {
		t.Error("the second is not known")
	}
}
