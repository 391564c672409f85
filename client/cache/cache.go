// Package cache keeps verified plain content on a cell's disk.
//
// Every content is one file, named by the SHA-256 of its bytes:
//
//	<dir>/<2 digits>/<62 digits>          the content, mode 0444
//	<dir>/objects/<2 digits>/<62 digits>  a hard link to it: the object it was
//	<dir>/catalogs/<2 digits>/<62 digits> a hard link to it: a catalog's index,
//	                                      a tree's objects table or image
//	<dir>/txn/                            what is being written
//	<dir>/lock, <dir>/syncpoint           who uses it, and what is durable
//
// A repository that knows only the hashes of stored bytes finds content by the
// names under objects, one that knows the content by its own, and both share
// one inode and so one copy in the page cache. A file appears only after
// whoever fetched it has verified it, and is never written again.
//
// Nothing is synced file by file. What was stored since the last sync point is
// verified by its digest after an unclean stop before anybody sees it, and
// everything else on its first use after a restart.
//
// The package knows neither networks nor repositories.
package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/object"
)

var (
	// ErrLocked reports a directory that another process uses.
	ErrLocked = errors.New("cache directory is in use")
	// ErrCannotStore reports that the disk took no more: it is full of what
	// cannot be evicted, read-only or broken. The content may still be used
	// without being cached.
	ErrCannotStore = errors.New("cache cannot store")
	// ErrContent reports bytes that are not the content they were stored as.
	ErrContent = errors.New("content is not what its name says")
)

// Options configure a cache. Zero values are defaults.
type Options struct {
	// Quota bounds the bytes of all contents; 0 for no bound but the disk.
	// It is soft: what is being written or in use may exceed it for a while.
	Quota int64
	// LowWater is what an eviction goes down to; three quarters of Quota.
	LowWater int64
	// SyncInterval is the time between sync points; 30 s, negative for none
	// but those asked for.
	SyncInterval time.Duration
	// Memory bounds the bytes kept in memory when the disk takes no more;
	// 32 MiB, negative for none.
	Memory int64
	// Continued says that the last process that used the directory may have
	// died, but the machine went on since: what that stored and did not sync
	// is all there.
	Continued bool
	Log       *slog.Logger // of the background sync; nil is silent
	Clock     func() time.Time
}

// Cache is one directory. All methods may be called concurrently.
//
// Lock order: disk before mu.
type Cache struct {
	dir string
	o   Options

	lock *os.File // flock'd
	root *os.File // the directory, for syncfs

	written atomic.Uint64 // names files in txn

	disk sync.Mutex // held while names appear and disappear
	sync syncPoint  // guarded by disk

	mu       sync.Mutex
	index    index
	held     func(object.ContentID) bool
	reserved int64 // bytes of what is being written
	flights  map[Key]*flight
	memory   memory
	stats    Stats

	cleanups cleanups

	stop chan struct{}
	done sync.WaitGroup
}

// Stats are what a cache reports of itself. Counts are since it was opened.
type Stats struct {
	Quota     int64 // bytes
	Bytes     int64 // of all contents
	Pinned    int64 // bytes of contents pinned by Pin that are present
	Contents  int
	Hits      int64 // lookups
	Misses    int64
	Evictions int64
	Discarded int64 // found damaged and removed
	Refused   int64 // not stored for want of room or by disk errors
	Scrubbed  int64 // bytes that scrubs have read
}

// Open takes dir, creating it if need be, and learns what it holds. The
// caller closes the cache.
func Open(dir string, o Options) (*Cache, error) {
	if o.LowWater <= 0 || o.LowWater > o.Quota {
		o.LowWater = o.Quota / 4 * 3
	}
	if o.SyncInterval == 0 {
		o.SyncInterval = 30 * time.Second
	}
	if o.Memory == 0 {
		o.Memory = 32 << 20
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	c := &Cache{dir: dir, o: o, flights: map[Key]*flight{}, stop: make(chan struct{})}
	c.index.init()
	if err := c.open(); err != nil {
		c.closeFiles()
		return nil, err
	}
	c.done.Go(c.makeDirs)
	if o.SyncInterval > 0 {
		c.done.Go(c.syncLoop)
	}
	return c, nil
}

func (c *Cache) open() error {
	for _, d := range []string{"", "txn", "objects", "catalogs"} {
		if err := os.MkdirAll(filepath.Join(c.dir, d), 0o700); err != nil {
			return fmt.Errorf("cache directory: %w", err)
		}
	}
	if err := os.Chmod(c.dir, 0o700); err != nil { // #nosec G302 -- a directory
		return fmt.Errorf("cache directory: %w", err)
	}
	var err error
	if c.root, err = os.Open(c.dir); err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	if err := c.flock(); err != nil {
		return err
	}
	return c.load()
}

func (c *Cache) flock() error {
	path := filepath.Join(c.dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cache lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close() //nolint:errcheck // nothing was written
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("cache lock %s: %w", path, err)
		}
		holder := "another process"
		if b, err := os.ReadFile(path); err == nil { // #nosec G304 -- our own directory
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				holder = fmt.Sprintf("process %d", pid)
			}
		}
		return fmt.Errorf("%w: %s by %s; stop it or choose another directory", ErrLocked, c.dir, holder)
	}
	c.lock = f
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("cache lock %s: %w", path, err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("cache lock %s: %w", path, err)
	}
	return nil
}

// Leave lets go of the directory in favour of a cache that is Continued. Unlike
// Close it waits for no disk.
func (c *Cache) Leave() {
	close(c.stop)
	c.done.Wait()
	c.closeFiles()
}

// Close makes everything durable, notes that the stop was clean, and lets go
// of the directory. Files handed out stay usable.
func (c *Cache) Close() error {
	close(c.stop)
	c.done.Wait()
	err := c.finishSync()
	c.closeFiles()
	return err
}

func (c *Cache) closeFiles() {
	for _, f := range []*os.File{c.root, c.lock} {
		if f != nil {
			f.Close() //nolint:errcheck // only its lock mattered
		}
	}
}

// Dir is the cache's directory. Below it, state/ belongs to the cache's user.
func (c *Cache) Dir() string { return c.dir }

// Stats reports the present state.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Quota, s.Bytes, s.Pinned, s.Contents = c.o.Quota, c.index.bytes, c.index.pinned, c.index.len()
	return s
}

// Pin asks that a content, present or not, be evicted last. Pins add up and
// end with the process.
func (c *Cache) Pin(k Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index.pin(k, 1)
}

// Hold makes held another way to pin: a content for which it says true, by its
// own digest or the ID of a name of what it was stored as, is evicted last. It is asked with the cache's locks held, so it must not wait
// nor call the cache. It is called at most once, before contents are held.
func (c *Cache) Hold(held func(object.ContentID) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = held
}

// Unpin takes back one Pin.
func (c *Cache) Unpin(k Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index.pin(k, -1)
}

// Watch tells watch of every content that is present, and from then on of each
// that comes, goes or is pinned or not, in the order in which that happens: its
// own digest, and the IDs of the names of what it was stored as. One that gets
// or loses such a name goes and comes. Watch is called with the cache's locks
// held, so it must not wait nor call the cache, and the slice is good until it
// returns. There is one watch at a time; nil ends it.
func (c *Cache) Watch(watch func(ids []object.ContentID, size int64, before, after State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index.watch = watch
	if watch == nil {
		return
	}
	for _, n := range c.index.byContent {
		e := &c.index.entries[n]
		watch(c.index.idsOf(e), e.size, State{}, e.state())
	}
}

// Locked calls f while nothing changes: what f finds, by any of its ids, is what
// watch was told of. Like watch, f must not wait nor call the cache.
func (c *Cache) Locked(f func(find Find)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(func(id object.ContentID) ([]object.ContentID, int64, State) {
		n, ok := c.index.number(Name(id))
		if !ok {
			return nil, 0, State{}
		}
		e := &c.index.entries[n]
		return c.index.idsOf(e), e.size, e.state()
	})
}

// Find returns all ids of a content, which are good until the next call, its
// size in bytes and its state.
type Find func(id object.ContentID) (ids []object.ContentID, size int64, s State)
