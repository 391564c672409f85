package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// syncPoint says which files are known to be on the disk for good: those whose
// modification time lies before it. While a cache is open, its file reads
// "dirty" and that time; after a clean close, "clean".
type syncPoint struct {
	at     time.Time
	stored bool // something was, since
}

// clockSlack covers the granularity of file times and small steps of a clock.
const clockSlack = 2 * time.Second

// readSyncPoint tells what was known at the last stop. A missing or unreadable
// file means that nothing is.
func (c *Cache) readSyncPoint() (clean bool, at time.Time, err error) {
	b, err := os.ReadFile(filepath.Join(c.dir, "syncpoint"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, time.Time{}, nil
	}
	if err != nil {
		return false, time.Time{}, fmt.Errorf("cache sync point: %w", err)
	}
	text := strings.TrimSpace(string(b))
	if text == "clean" {
		return true, time.Time{}, nil
	}
	if ns, err := strconv.ParseInt(strings.TrimPrefix(text, "dirty "), 10, 64); err == nil {
		return false, time.Unix(0, ns), nil
	}
	return false, time.Time{}, nil
}

// writeSyncPoint is durable when it returns.
func (c *Cache) writeSyncPoint(text string) error {
	tmp := filepath.Join(c.dir, "txn", "syncpoint")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // #nosec G304 -- our own directory
	if err == nil {
		_, err = f.WriteString(text + "\n")
		if err == nil {
			err = f.Sync()
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(c.dir, "syncpoint"))
	}
	if err == nil {
		err = c.root.Sync()
	}
	if err != nil {
		return fmt.Errorf("cache sync point: %w", err)
	}
	return nil
}

// setSyncPoint is called with disk held.
func (c *Cache) setSyncPoint(at time.Time) error {
	if err := c.writeSyncPoint("dirty " + strconv.FormatInt(at.UnixNano(), 10)); err != nil {
		return err
	}
	c.sync.at = at
	return nil
}

// noteStored is called with disk held before a file with that time becomes
// visible. If the clock went back, the sync point follows it, or the file
// would pass for durable.
func (c *Cache) noteStored(mtime time.Time) error {
	c.sync.stored = true
	if mtime.Before(c.sync.at.Add(-clockSlack / 2)) {
		return c.setSyncPoint(mtime)
	}
	return nil
}

// Sync makes everything stored so far durable and moves the sync point.
func (c *Cache) Sync() error {
	c.disk.Lock()
	stored := c.sync.stored
	c.sync.stored = false
	now := c.o.Clock()
	c.disk.Unlock()
	if !stored {
		return nil
	}
	// Not under the lock: this takes as long as the disk is slow. What is
	// stored meanwhile is younger than now.
	err := unix.Syncfs(int(c.root.Fd()))
	c.disk.Lock()
	defer c.disk.Unlock()
	if err != nil {
		c.sync.stored = true
		return fmt.Errorf("sync cache %s: %w", c.dir, err)
	}
	if now.Before(c.sync.at) {
		return nil // the clock went back meanwhile, and the point with it
	}
	return c.setSyncPoint(now)
}

func (c *Cache) syncLoop() {
	tick := time.NewTicker(c.o.SyncInterval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
			err := c.Sync()
			switch {
			case err != nil && !failing:
				c.o.Log.Error("cache is not made durable; what is young will be verified at the next start", "error", err)
			case err == nil && failing:
				c.o.Log.Info("cache is durable again")
			}
			failing = err != nil
		}
	}
}

// finishSync notes a clean stop.
func (c *Cache) finishSync() error {
	c.disk.Lock()
	defer c.disk.Unlock()
	if err := unix.Syncfs(int(c.root.Fd())); err != nil {
		return fmt.Errorf("sync cache %s: %w", c.dir, err)
	}
	return c.writeSyncPoint("clean")
}
