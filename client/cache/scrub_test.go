package cache_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

// forge changes a content and puts its times back, so that only the time of the
// change itself tells.
func forge(t *testing.T, c *cache.Cache, was, to []byte) {
	t.Helper()
	path := filepath.Join(c.Dir(), object.ContentOf(was).CachePath())
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(to, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// Whatever is done to a file, what a lookup gives is the content or nothing.
func TestTamperingIsNoticed(t *testing.T) {
	good := payload(1, 4096)
	bad := payload(2, 4096)
	for name, tamper := range map[string]func(t *testing.T, c *cache.Cache, path string){
		"written, times put back": func(t *testing.T, c *cache.Cache, _ string) { forge(t, c, good, bad) },
		"written":                 func(t *testing.T, _ *cache.Cache, path string) { os.WriteFile(path, bad, 0) },
		"truncated":               func(t *testing.T, _ *cache.Cache, path string) { os.Truncate(path, 100) },
		"grown":                   func(t *testing.T, _ *cache.Cache, path string) { os.Truncate(path, 8192) },
		"removed":                 func(t *testing.T, _ *cache.Cache, path string) { os.Remove(path) },
		"another file": func(t *testing.T, _ *cache.Cache, path string) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			os.Remove(path)
			os.WriteFile(path, bad, 0o444)
			os.Chtimes(path, info.ModTime(), info.ModTime())
		},
	} {
		c := opened(t, cache.Options{})
		put(t, c, key(1), good)
		tamper(t, c, filepath.Join(c.Dir(), object.ContentOf(good).CachePath()))
		if got, ok := read(t, c, key(1)); ok {
			t.Errorf("%s: %d bytes were served, equal %v", name, len(got), bytes.Equal(got, good))
		}
		if s := c.Stats(); s.Discarded != 1 || s.Contents != 0 {
			t.Errorf("%s: %+v", name, s)
		}
		put(t, c, key(1), good)
		if got, ok := read(t, c, key(1)); !ok || !bytes.Equal(got, good) {
			t.Errorf("%s: not replaced", name)
		}
	}
}

// A touch, or another name, is a change that takes nothing away.
func TestHarmlessChanges(t *testing.T) {
	c := opened(t, cache.Options{})
	b := payload(1, 4096)
	put(t, c, key(1), b)
	path := filepath.Join(c.Dir(), object.ContentOf(b).CachePath())
	if err := os.Link(path, filepath.Join(c.Dir(), "aside")); err != nil {
		t.Fatal(err)
	}
	if got, ok := read(t, c, key(1)); !ok || !bytes.Equal(got, b) {
		t.Error("lost to a further link")
	}
	if c.Changed(key(1)) {
		t.Error("changed by a further link")
	}
	if s := c.Stats(); s.Discarded != 0 {
		t.Errorf("%+v", s)
	}
}

func TestScrub(t *testing.T) {
	c := opened(t, cache.Options{})
	for n := range 20 {
		put(t, c, key(n), payload(n, 1000))
	}
	if ok, err := c.Alias(key(3), key(103)); !ok || err != nil {
		t.Fatal(err)
	}
	forge(t, c, payload(3, 1000), payload(99, 1000))
	if err := os.Remove(filepath.Join(c.Dir(), object.ContentOf(payload(4, 1000)).CachePath())); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := os.Chtimes(filepath.Join(c.Dir(), object.ContentOf(payload(5, 1000)).CachePath()), now, now); err != nil {
		t.Fatal(err)
	}
	found := map[object.ContentID]cache.Damaged{}
	r, err := c.Scrub(t.Context(), 0, func(d cache.Damaged) { found[d.Sum] = d })
	if err != nil || r.Contents != 20 || r.Damaged != 2 || r.Bytes != 19_000 || len(found) != 2 {
		t.Errorf("%+v, %v, %v", r, found, err)
	}
	d := found[object.ContentOf(payload(3, 1000))]
	for _, k := range []cache.Key{key(3), key(103), cache.Content(d.Sum)} {
		if !slices.Contains(d.Names, k) || c.Has(k) {
			t.Errorf("%v: named %v, still there %v", k, d.Names, c.Has(k))
		}
	}
	if _, ok := read(t, c, key(5)); !ok {
		t.Error("what was only touched is gone after a scrub")
	}
	if r, err := c.Scrub(t.Context(), 0, func(cache.Damaged) { t.Error("found damage") }); err != nil || r.Contents != 18 {
		t.Errorf("second: %+v, %v", r, err)
	}
}

// A scrub keeps to its rate, in that it cannot be done before its time, and ends
// when it is told to.
func TestScrubIsPaced(t *testing.T) {
	c := opened(t, cache.Options{})
	for n := range 10 {
		put(t, c, key(n), payload(n, 10_000))
	}
	start := time.Now()
	if _, err := c.Scrub(t.Context(), 1_000_000, func(cache.Damaged) {}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("100 kB at 1 MB/s took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	r, err := c.Scrub(ctx, 1000, func(cache.Damaged) { t.Error("an interrupted read is no damage") })
	if !errors.Is(err, context.Canceled) || r.Contents == 10 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestChanged(t *testing.T) {
	c := opened(t, cache.Options{})
	b := payload(1, 4096)
	put(t, c, key(1), b)
	if c.Changed(key(1)) || c.Changed(key(2)) {
		t.Error("nothing was changed")
	}
	if err := os.Truncate(filepath.Join(c.Dir(), object.ContentOf(b).CachePath()), 1); err != nil {
		t.Fatal(err)
	}
	if !c.Changed(key(1)) || c.Has(key(1)) {
		t.Error("a truncated file was not noticed")
	}
}

// Hits and misses are counted where contents are stored on a miss.
func TestHitsAndMisses(t *testing.T) {
	c := opened(t, cache.Options{})
	for range 3 {
		put(t, c, key(1), []byte("x"))
	}
	if s := c.Stats(); s.Hits != 2 || s.Misses != 1 {
		t.Errorf("%+v", s)
	}
}
