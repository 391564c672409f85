package fault_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// timeout is what a request may take in these tests.
const timeout = 400 * time.Millisecond

// clock is moved by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }

// fixture is a repository, its first server, which is the one to be broken, and
// a cell that shows it.
type fixture struct {
	t     *testing.T
	repo  *testrepo.Repo
	clock *clock
	files map[string][]byte // by path
	tree  testrepo.Tree     // of these files
	o     cell.Options
	cell  *cell.Cell
	mnt   string
	stop  func()
}

const (
	fileCount = 24
	fileSize  = 20_000
)

// newFixture publishes fileCount files, each in two objects' worth of bytes that
// do not compress.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	clk := &clock{t: time.Now()}
	f := &fixture{t: t, clock: clk, files: map[string][]byte{}, repo: testrepo.New(t, testrepo.Options{Expires: clk.now().Add(48 * time.Hour)})}
	f.tree = testrepo.Tree{"/dir": testrepo.Nested()}
	source := rand.NewChaCha8([32]byte{})
	for n := range fileCount {
		b := make([]byte, fileSize)
		source.Read(b)
		f.files[fmt.Sprintf("/dir/%02d", n)] = b
		f.tree[fmt.Sprintf("/dir/%02d", n)] = testrepo.Bytes(b)
	}
	f.republish()
	dir := t.TempDir()
	f.mnt = filepath.Join(dir, "mnt")
	if err := os.Mkdir(f.mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	f.o = cell.Options{
		CacheDir: filepath.Join(dir, "cache"), Socket: filepath.Join(dir, "cell.sock"), Clock: clk.now,
		Repositories: []cell.Repository{{
			Name: f.repo.Name, Servers: []string{f.repo.URL}, Keys: f.repo.Trust().Keys, Mountpoint: f.mnt,
			Refresh: time.Hour, Network: fetch.Config{Timeout: timeout, TimeoutDirect: timeout},
		}},
	}
	return f
}

// republish makes the files the newest revision.
func (f *fixture) republish() { f.publish(f.tree) }

// publish makes tree the newest revision, with a file for quieten.
func (f *fixture) publish(tree testrepo.Tree) {
	f.t.Helper()
	tree = maps.Clone(tree)
	tree[pollable] = testrepo.Text("")
	f.repo.Publish(tree)
}

const pollable = "/pollable"

// quieten has the kernel learn that polling is not supported. Go asks for that
// whenever it opens a file, without giving up its processor, which the mount in
// this very process may need to answer.
func (f *fixture) quieten() {
	f.t.Helper()
	fd, err := unix.Open(f.mnt+pollable, unix.O_RDONLY, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
		f.t.Fatal(err)
	}
}

// servers sets the base URLs.
func (f *fixture) servers(urls ...string) { f.o.Repositories[0].Servers = urls }

// start mounts and serves until the test ends or stop is called.
func (f *fixture) start() {
	f.t.Helper()
	if os.Geteuid() != 0 {
		f.t.Skip("SKIPPED: mounting takes root, so no fault is tested")
	}
	c, err := cell.Mount(f.t.Context(), f.o)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() { close(ready) }) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("Run: %v", err)
		}
	})
	f.t.Cleanup(f.stop)
	<-ready
	f.cell = c
	f.quieten()
}

// mirror is a second server that has everything.
func (f *fixture) mirror() string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := f.repo.Get(strings.TrimPrefix(r.URL.Path, "/"))
		if b == nil {
			http.NotFound(w, r)
			return
		}
		w.Write(b)
	}))
	f.t.Cleanup(s.Close)
	return s.URL
}

// deadAddress is where nobody listens.
func deadAddress(t *testing.T) string {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
}

// read reads a file of the mount, past the kernel's cache of it.
func (f *fixture) read(path string) ([]byte, error) {
	file, err := os.Open(f.mnt + path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
	var b bytes.Buffer
	_, err = b.ReadFrom(file)
	return b.Bytes(), err
}

// good reads all files, which must be right.
func (f *fixture) good(when string) {
	f.t.Helper()
	for path, want := range f.files {
		if got, err := f.read(path); err != nil || !bytes.Equal(got, want) {
			f.t.Errorf("%s: %s: %d bytes, %v", when, path, len(got), err)
			return
		}
	}
}

// neverWrong reads all files, each of which must be right or an I/O error, and
// returns how many were errors.
func (f *fixture) neverWrong(when string) (failed int) {
	f.t.Helper()
	for path, want := range f.files {
		got, err := f.read(path)
		switch {
		case err == nil && bytes.Equal(got, want):
		case isIO(err):
			failed++
		default:
			f.t.Errorf("%s: %s: %d bytes, %v; want its content or EIO", when, path, len(got), err)
		}
	}
	return failed
}

func isIO(err error) bool { return err != nil && strings.Contains(err.Error(), unix.EIO.Error()) }

// refresh looks for a new revision and returns what went wrong.
func (f *fixture) refresh() string {
	f.t.Helper()
	list, err := f.cell.Refresh(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return list[0].Error
}

// metric sums what is exported under a name, with all labels given as
// name="value".
func (f *fixture) metric(selector string) (sum float64) {
	f.t.Helper()
	name, labels, _ := strings.Cut(strings.TrimSuffix(selector, "}"), "{")
	w := httptest.NewRecorder()
	f.cell.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' || !strings.Contains(rest, labels) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			f.t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// evict has the cell forget at least n bytes.
func (f *fixture) evict(n int64) {
	f.t.Helper()
	c := &control.Client{Socket: f.o.Socket}
	if err := c.Do(f.t.Context(), cell.CallEvict, cell.Evict{Bytes: n}, nil, nil); err != nil {
		f.t.Fatal(err)
	}
}

// stored is a content as the repository stores it.
func (f *fixture) stored(plain []byte) []byte {
	f.t.Helper()
	b, err := codec.Encode(object.Zlib, nil, plain)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// cached is the file in the cache that holds a content.
func (f *fixture) cached(content []byte) string {
	return filepath.Join(f.o.CacheDir, object.ContentOf(content).CachePath())
}
