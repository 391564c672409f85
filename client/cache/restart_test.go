package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

func path(dir string, b []byte) string { return filepath.Join(dir, object.ContentOf(b).CachePath()) }

// damage changes bytes behind the cache's back and keeps size and times.
func damage(t *testing.T, path string, to []byte) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, to, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// crash leaves a directory as a killed daemon would: copied while it is open.
func crash(t *testing.T, c *cache.Cache) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(c.Dir())); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(c.Dir(), func(p string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		rel, err := filepath.Rel(c.Dir(), p)
		if err != nil {
			return err
		}
		return os.Chtimes(filepath.Join(dir, rel), info.ModTime(), info.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, cache.Options{})
	for n := range 20 {
		put(t, c, key(n), payload(n, 100))
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// The least recently used are known by the times on disk.
	for n := range 20 {
		at := time.Unix(int64(1e9+n), 0)
		if n < 5 {
			at = time.Unix(int64(2e9+n), 0)
		}
		p := path(dir, payload(n, 100))
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, at, info.ModTime()); err != nil {
			t.Fatal(err)
		}
		if n >= 5 {
			if err := os.Chtimes(p, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	orphan := filepath.Join(dir, "objects", "00", fmt.Sprintf("%062d", 0))
	os.MkdirAll(filepath.Dir(orphan), 0o700)                      //nolint:errcheck // the write fails if it did
	os.WriteFile(orphan, nil, 0o444)                              //nolint:errcheck // checked below
	os.WriteFile(filepath.Join(dir, "txn", "left"), nil, 0o600)   //nolint:errcheck // checked below
	os.WriteFile(filepath.Join(dir, "00", "foreign"), nil, 0o600) //nolint:errcheck // may lack its directory; only must do no harm
	c = open(t, dir, cache.Options{})
	defer c.Close() //nolint:errcheck // done with it
	if s := c.Stats(); s.Contents != 20 || s.Bytes != 2000 || s.Discarded != 0 {
		t.Errorf("%+v", s)
	}
	for _, gone := range []string{orphan, filepath.Join(dir, "txn", "left")} {
		if _, err := os.Lstat(gone); !os.IsNotExist(err) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	c.Evict(1000)
	for n := range 20 {
		if want := n < 5 || n >= 15; c.Has(key(n)) != want {
			t.Errorf("content %d present: %v", n, !want)
		}
	}
}

// After a restart each content's digest is checked before its first use, once
// for many readers.
func TestDamageAfterRestart(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, cache.Options{})
	good, bad := payload(1, 100), payload(2, 100)
	put(t, c, key(1), good)
	put(t, c, key(2), bad)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, path(dir, bad), payload(3, 100))
	c = open(t, dir, cache.Options{})
	defer c.Close() //nolint:errcheck // done with it
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := c.Lookup(done, key(1)); ok {
		t.Error("a caller who does not wait was given what is not verified yet")
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if got, ok := read(t, c, key(1)); !ok || !bytes.Equal(got, good) {
				t.Errorf("sound content: %v", ok)
			}
			if _, ok := read(t, c, key(2)); ok {
				t.Error("damaged content was served")
			}
		})
	}
	wg.Wait()
	if f, ok := c.Lookup(done, key(1)); !ok {
		t.Error("verified content was withheld from a caller who does not wait")
	} else {
		f.Close() //nolint:errcheck // read only
	}
	put(t, c, key(2), bad)
	if got, ok := read(t, c, key(2)); !ok || !bytes.Equal(got, bad) {
		t.Errorf("replaced: %v", ok)
	}
}

// While open, a file that changed size or time, or is gone, is not served.
func TestDamageWhileOpen(t *testing.T) {
	c := opened(t, cache.Options{})
	for n, spoil := range map[int]func(p string) error{
		1: func(p string) error { return os.Truncate(p, 10) },
		2: os.Remove,
		3: func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 0)) },
	} {
		put(t, c, key(n), payload(n, 100))
		if err := spoil(path(c.Dir(), payload(n, 100))); err != nil {
			t.Fatal(err)
		}
		if _, ok := read(t, c, key(n)); ok {
			t.Errorf("damage %d: served", n)
		}
		put(t, c, key(n), payload(n, 100))
		if got, ok := read(t, c, key(n)); !ok || !bytes.Equal(got, payload(n, 100)) {
			t.Errorf("damage %d: not replaced", n)
		}
	}
	if s := c.Stats(); s.Discarded != 3 {
		t.Errorf("%+v", s)
	}
}

// After an unclean stop, what the sync point does not vouch for is verified
// before anybody can see it: the kernel reads these files without asking us.
func TestUncleanStop(t *testing.T) {
	now := time.Now()
	c := open(t, t.TempDir(), cache.Options{Clock: func() time.Time { return now }})
	defer c.Close() //nolint:errcheck // done with it
	set := func(n int, at time.Time) {
		t.Helper()
		put(t, c, key(n), payload(n, 100))
		if err := os.Chtimes(path(c.Dir(), payload(n, 100)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	set(1, now.Add(-time.Hour)) // long durable
	now = now.Add(time.Minute)
	if err := c.Sync(); err != nil {
		t.Fatal(err)
	}
	set(2, now.Add(time.Second))
	set(3, now.Add(time.Second))
	set(4, now.Add(time.Hour)) // from the future: the clock cannot be trusted
	dir := crash(t, c)
	for _, n := range []int{1, 3, 4} {
		damage(t, path(dir, payload(n, 100)), payload(9, 100))
	}
	c2 := open(t, dir, cache.Options{Clock: func() time.Time { return now.Add(time.Minute) }})
	defer c2.Close() //nolint:errcheck // done with it
	if s := c2.Stats(); s.Discarded != 2 || s.Contents != 2 {
		t.Errorf("%+v", s)
	}
	for n, want := range map[int]bool{1: true, 2: true, 3: false, 4: false} {
		if _, err := os.Stat(path(dir, payload(n, 100))); (err == nil) != want {
			t.Errorf("content %d: %v", n, err)
		}
	}
	// Without a sync point nothing is vouched for.
	dir = crash(t, c)
	damage(t, path(dir, payload(1, 100)), payload(9, 100))
	if err := os.Remove(filepath.Join(dir, "syncpoint")); err != nil {
		t.Fatal(err)
	}
	c3 := open(t, dir, cache.Options{Clock: func() time.Time { return now }})
	defer c3.Close() //nolint:errcheck // done with it
	if c3.Stats().Discarded != 1 {
		t.Errorf("without a sync point: %+v", c3.Stats())
	}
}

// What was verified at a start has been read, maybe from memory, and is not yet
// on the disk for good: a second crash before the next sync does not trust it.
func TestTwoUncleanStops(t *testing.T) {
	for _, point := range []bool{true, false} {
		now := time.Now()
		c := open(t, t.TempDir(), cache.Options{Clock: func() time.Time { return now }})
		defer c.Close() //nolint:errcheck // done with it
		put(t, c, key(1), payload(1, 100))
		dir := crash(t, c)
		if !point {
			if err := os.Remove(filepath.Join(dir, "syncpoint")); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(time.Hour)
		c2 := open(t, dir, cache.Options{Clock: func() time.Time { return now }})
		defer c2.Close() //nolint:errcheck // done with it
		if s := c2.Stats(); s.Contents != 1 {
			t.Errorf("after the first crash: %+v", s)
		}
		again := crash(t, c2)
		damage(t, path(again, payload(1, 100)), payload(9, 100))
		c3 := open(t, again, cache.Options{Clock: func() time.Time { return now }})
		defer c3.Close() //nolint:errcheck // done with it
		if s := c3.Stats(); s.Discarded != 1 {
			t.Errorf("after the second crash, sync point %v: %+v", point, s)
		}
		if err := c2.Sync(); err != nil {
			t.Fatal(err)
		}
		durable := crash(t, c2)
		damage(t, path(durable, payload(1, 100)), payload(9, 100))
		c4 := open(t, durable, cache.Options{Clock: func() time.Time { return now }})
		defer c4.Close() //nolint:errcheck // done with it
		if s := c4.Stats(); s.Discarded != 0 {
			t.Errorf("after a sync: %+v", s)
		}
	}
}

// A clock that goes back takes the sync point along, or new files would pass
// for durable ones.
func TestClockGoesBack(t *testing.T) {
	future := time.Now().Add(time.Hour)
	c := open(t, t.TempDir(), cache.Options{Clock: func() time.Time { return future }})
	defer c.Close()                    //nolint:errcheck // done with it
	put(t, c, key(1), payload(1, 100)) // the file's time is the kernel's, an hour earlier
	dir := crash(t, c)
	damage(t, path(dir, payload(1, 100)), payload(9, 100))
	c2 := open(t, dir, cache.Options{})
	defer c2.Close() //nolint:errcheck // done with it
	if s := c2.Stats(); s.Discarded != 1 {
		t.Errorf("%+v", s)
	}
}

// A process that died under a machine that went on lost nothing: its successor
// reads nothing to find out, and does not take for durable what was not synced.
func TestContinued(t *testing.T) {
	dir := t.TempDir()
	o := cache.Options{SyncInterval: -1}
	c, err := cache.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("stored and not synced")
	at := path(dir, data)
	put(t, c, key(1), data)
	c.Leave() // as good as dead
	point, err := os.ReadFile(filepath.Join(dir, "syncpoint"))
	if err != nil {
		t.Fatal(err)
	}
	o.Continued = true
	if c, err = cache.Open(dir, o); err != nil {
		t.Fatal(err)
	}
	if !c.Has(cache.Content(object.ContentOf(data))) {
		t.Error("it is not there")
	}
	if got, err := os.ReadFile(filepath.Join(dir, "syncpoint")); err != nil || string(got) != string(point) {
		t.Errorf("sync point %q, was %q, %v", got, point, err)
	}
	c.Leave()
	// After a power cut it is not what it was; whoever starts then looks.
	o.Continued = false
	damage(t, at, make([]byte, len(data)))
	if c, err = cache.Open(dir, o); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Has(cache.Content(object.ContentOf(data))) {
		t.Error("a content that was lost is still there")
	}
}

// The directories of a new cache are there before the first content comes.
func TestDirectoriesAreMade(t *testing.T) {
	dir := t.TempDir()
	c, err := cache.Open(dir, cache.Options{SyncInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // nothing was stored
	for _, name := range []string{"00", "ff", "objects/00", "objects/ff"} {
		deadline := time.Now().Add(30 * time.Second)
		for {
			info, err := os.Stat(filepath.Join(dir, name))
			if err == nil && info.IsDir() && info.Mode().Perm() == 0o700 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", name, err)
			}
			time.Sleep(time.Millisecond)
		}
	}
}
