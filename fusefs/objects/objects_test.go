package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/objects"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
)

// source is a Source in memory.
type source struct {
	mu     sync.Mutex
	known  map[object.ContentID][]byte
	lie    int64         // added to the sizes found
	block  chan struct{} // if not nil, opening waits for it
	opens  atomic.Int32
	closes atomic.Int32
}

func newSource(contents ...[]byte) *source {
	s := &source{known: map[object.ContentID][]byte{}}
	for _, b := range contents {
		s.add(b)
	}
	return s
}

func (s *source) add(b []byte) object.ContentID {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := object.ContentOf(b)
	s.known[id] = b
	return id
}

func (s *source) Find(_ context.Context, id object.ContentID) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.known[id]
	if !ok {
		return 0, fmt.Errorf("content %s: %w", id, fs.ErrNotExist)
	}
	return int64(len(b)) + s.lie, nil
}

func (s *source) Open(ctx context.Context, id object.ContentID) (view.Content, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // as if every content had to be fetched
	}
	s.opens.Add(1)
	s.mu.Lock()
	block := s.block
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			s.closes.Add(1)
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &content{bytes.NewReader(s.known[id]), s}, nil
}

type content struct {
	*bytes.Reader
	s *source
}

func (c *content) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return c.Reader.ReadAt(p, off)
}
func (c *content) Close() error { c.s.closes.Add(1); return nil }

// mount shows s until the test ends.
func mount(t *testing.T, s *source, o fusefs.Options) (dir string, conn *fusefs.Conn) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	f, err := objects.New(s, objects.Options{Numbers: filepath.Join(t.TempDir(), "numbers")})
	if err != nil {
		t.Fatal(err)
	}
	o.Mountpoint, o.NoXAttrs = t.TempDir(), true
	conn, err = fusefs.Mount(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- conn.Serve(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(conn.Unmount(context.Background()), <-served, f.Close()); err != nil {
			t.Error(err)
		}
		if o, c := s.opens.Load(), s.closes.Load(); o != c {
			t.Errorf("%d contents opened, %d closed", o, c)
		}
	})
	return o.Mountpoint, conn
}

// read uses system calls alone: see quiet in fusefs/tree's tests.
func read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []byte
	for buf := make([]byte, 64<<10); ; {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return all, nil
		}
		all = append(all, buf[:n]...)
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestContentsByName(t *testing.T) {
	s := newSource([]byte("small"), pattern(3<<20), nil)
	dir, conn := mount(t, s, fusefs.Options{})
	for id, want := range s.known {
		path := filepath.Join(dir, id.CachePath())
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode != unix.S_IFREG|0o444 || st.Size != int64(len(want)) || st.Nlink != 1 || st.Uid != 0 || st.Gid != 0 {
			t.Errorf("%s: mode %o, %d bytes, %d links, owner %d:%d", id, st.Mode, st.Size, st.Nlink, st.Uid, st.Gid)
		}
		if got, err := read(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want %d", id, len(got), err, len(want))
		}
	}
	// Once opened and read, nothing is asked any more.
	small := filepath.Join(dir, object.ContentOf([]byte("small")).CachePath())
	before := conn.Stats().Requests
	for range 10 {
		if b, err := read(small); err != nil || string(b) != "small" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if n := conn.Stats().Requests - before; n != 0 {
		t.Errorf("%d requests for what the kernel knows", n)
	}
}

func TestNamesThatAreNone(t *testing.T) {
	s := newSource([]byte("small"))
	dir, _ := mount(t, s, fusefs.Options{})
	path := object.ContentOf([]byte("small")).CachePath()
	for _, name := range []string{
		"0", "000", "0g", "AB", "x", path[:2] + "/" + path[3:len(path)-1], path + "0",
		path[:2] + "/" + string(bytes.ToUpper([]byte(path[3:]))), path[:2] + "/..x", "00" + path[2:],
	} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, path), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v", err)
	}
	if _, err := os.Readlink(filepath.Join(dir, path)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("readlink: %v", err)
	}
}

// A name that was absent is there as soon as a tree has it.
func TestAbsenceIsNotRemembered(t *testing.T) {
	s := newSource()
	dir, _ := mount(t, s, fusefs.Options{})
	late := []byte("late")
	path := filepath.Join(dir, object.ContentOf(late).CachePath())
	for range 3 {
		if _, err := read(path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("before: %v", err)
		}
	}
	s.add(late)
	if b, err := read(path); err != nil || string(b) != "late" {
		t.Errorf("after: %q, %v", b, err)
	}
}

func TestListing(t *testing.T) {
	s := newSource([]byte("small"))
	dir, _ := mount(t, s, fusefs.Options{})
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 256 || list[0].Name() != "00" || list[255].Name() != "ff" || !list[77].IsDir() {
		t.Errorf("root lists %d, %v", len(list), err)
	}
	for _, d := range []string{"00", object.ContentOf([]byte("small")).CachePath()[:2]} {
		if list, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(list) != 0 {
			t.Errorf("%s lists %d, %v", d, len(list), err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Namelen != 62 {
		t.Errorf("statfs: names of %d, %v", st.Namelen, err)
	}
}

func TestDeadline(t *testing.T) {
	s := newSource([]byte("slow"), []byte("fast"))
	dir, conn := mount(t, s, fusefs.Options{Deadline: 50 * time.Millisecond})
	if _, err := read(filepath.Join(dir, object.ContentOf([]byte("fast")).CachePath())); err != nil {
		t.Fatal(err)
	}
	block := make(chan struct{})
	s.mu.Lock()
	s.block = block
	s.mu.Unlock()
	slow := filepath.Join(dir, object.ContentOf([]byte("slow")).CachePath())
	if _, err := read(slow); !errors.Is(err, unix.EIO) {
		t.Errorf("past the deadline: %v", err)
	}
	if conn.Stats().Failures == 0 {
		t.Error("not counted")
	}
	close(block) // and it is not remembered either
	if b, err := read(slow); err != nil || string(b) != "slow" {
		t.Errorf("afterwards: %q, %v", b, err)
	}
}

// A source that contradicts itself must not be seen as zeros or an early end.
func TestWrongSize(t *testing.T) {
	for _, lie := range []int64{-1, +1} {
		s := newSource([]byte("content"))
		s.lie = lie
		dir, _ := mount(t, s, fusefs.Options{})
		path := filepath.Join(dir, object.ContentOf([]byte("content")).CachePath())
		if b, err := read(path); !errors.Is(err, unix.EIO) {
			t.Errorf("off by %d: %q, %v", lie, b, err)
		}
	}
}
