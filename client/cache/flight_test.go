package cache_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

func TestCoalesce(t *testing.T) {
	c := opened(t, cache.Options{})
	var fills atomic.Int64
	release := make(chan struct{})
	fill := func(_ context.Context, w cache.Writer) error {
		fills.Add(1)
		<-release
		_, err := w.Write([]byte("x"))
		return err
	}
	var wg sync.WaitGroup
	impatient, cancel := context.WithCancel(t.Context())
	for n := range 50 {
		ctx := t.Context()
		if n == 0 {
			ctx = impatient // may well be the one that started the work
		}
		wg.Go(func() {
			f, err := c.Store(ctx, key(1), 1, fill)
			if n == 0 {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("cancelled waiter: %v", err)
				}
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			f.Close() //nolint:errcheck // read only
		})
		if n == 0 {
			for fills.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	// The first has started the work; the others join it before it leaves.
	for c.Stats().Misses < 0 || !joined(c) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	close(release)
	wg.Wait()
	if n := fills.Load(); n != 1 {
		t.Errorf("filled %d times", n)
	}
}

// joined waits until a second store of a running key has been let in: it
// starts one itself with a context that ends at once.
func joined(c *cache.Cache) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Store(ctx, key(1), 1, func(context.Context, cache.Writer) error { return errors.New("not coalesced") })
	return errors.Is(err, context.DeadlineExceeded)
}

// When the last waiter leaves, the work is told, and the next one starts anew.
func TestLastWaiterCancels(t *testing.T) {
	c := opened(t, cache.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	_, err := c.Store(ctx, key(1), 1, func(ctx context.Context, _ cache.Writer) error {
		cancel()
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || !errors.Is(<-ended, context.Canceled) {
		t.Errorf("%v", err)
	}
	put(t, c, key(1), []byte("y"))
}

// What nobody reads now is stored once, checked like everything else, and there
// for who reads it later.
func TestEnsure(t *testing.T) {
	c := opened(t, cache.Options{})
	b, fills := []byte("for later"), 0
	fill := func(ctx context.Context, w cache.Writer) error { fills++; return writes(b)(ctx, w) }
	if err := c.Ensure(t.Context(), key(1), int64(len(b)+1), fill); !errors.Is(err, cache.ErrContent) || c.Has(key(1)) {
		t.Errorf("of another size: %v", err)
	}
	for range 2 {
		if err := c.Ensure(t.Context(), key(1), int64(len(b)), fill); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok := read(t, c, key(1)); !ok || !bytes.Equal(got, b) || fills != 2 {
		t.Errorf("%q, %v, filled %d times", got, ok, fills)
	}
}

// Who fetches for others stays with them, and no longer.
func TestEnsureIsLeft(t *testing.T) {
	b := []byte("wanted after all")
	for name, waited := range map[string]bool{"by all": false, "by who began": true} {
		t.Run(name, func(t *testing.T) {
			c := opened(t, cache.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			begun, goOn := make(chan struct{}), make(chan struct{})
			ensured, read := make(chan error, 1), make(chan error, 1)
			go func() {
				ensured <- c.Ensure(ctx, key(1), int64(len(b)), func(ctx context.Context, w cache.Writer) error {
					close(begun)
					select {
					case <-goOn:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
					return writes(b)(ctx, w)
				})
			}()
			<-begun
			if waited {
				go func() {
					f, err := c.Store(t.Context(), key(1), int64(len(b)), writes([]byte("another one's")))
					if err == nil {
						f.Close() //nolint:errcheck // read only
					}
					read <- err
				}()
				for c.Waiting(key(1)) < 2 {
					time.Sleep(time.Millisecond)
				}
			}
			cancel()
			if !waited {
				if err := <-ensured; !errors.Is(err, context.Canceled) {
					t.Errorf("nobody waits: %v", err)
				}
				return
			}
			for c.Waiting(key(1)) > 1 {
				time.Sleep(time.Millisecond)
			}
			close(goOn)
			if err := errors.Join(<-ensured, <-read); err != nil {
				t.Errorf("somebody waits: %v", err)
			}
		})
	}
}

// Work that nobody waits for any more may go on for a while. However it ends, it
// leaves alone what was stored in the meantime, under all its names, and what is
// being stored.
func TestLateWork(t *testing.T) {
	dir, b := t.TempDir(), []byte("the same bytes")
	for name, tc := range map[string]struct {
		end     error
		evicted bool // what was stored in the meantime, and somebody wants it again
	}{
		"in vain":             {end: errors.New("too late")},
		"well":                {},
		"in vain, after more": {end: errors.New("too late"), evicted: true},
		"well, after more":    {evicted: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, dir, cache.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			goOn, ended := make(chan struct{}), make(chan struct{})
			_, err := c.Store(ctx, key(1), int64(len(b)), func(_ context.Context, w cache.Writer) error {
				cancel()
				<-goOn
				_, err := w.Write(b)
				return errors.Join(err, tc.end)
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			late := func(others int) {
				close(goOn)
				for len(unfinished(t, dir)) > others {
					time.Sleep(time.Millisecond)
				}
				close(ended)
			}
			put(t, c, key(1), b)
			if tc.evicted {
				c.Evict(1 << 30)
				f, err := c.Store(t.Context(), key(1), int64(len(b)), func(_ context.Context, w cache.Writer) error {
					_, err := w.Write(b[:3])
					late(1)
					_, err2 := w.Write(b[3:])
					return errors.Join(err, err2)
				})
				if err != nil {
					t.Fatal(err)
				}
				f.Close() //nolint:errcheck // read only
			} else {
				late(0)
			}
			<-ended
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			c = open(t, dir, cache.Options{})
			if got, ok := read(t, c, key(1)); !ok || !bytes.Equal(got, b) {
				t.Errorf("%q, %v", got, ok)
			}
			c.Remove(key(1))
			if n := files(t, dir); n != 0 {
				t.Errorf("%d files are left", n)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// unfinished are the files that are being written.
func unfinished(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(dir, "txn"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Containers read below contents and objects without asking anybody: what is
// there under a name is all there.
func TestNothingIsThereInPart(t *testing.T) {
	dir, b := t.TempDir(), []byte("all of it")
	c := open(t, dir, cache.Options{})
	defer c.Close() //nolint:errcheck // nothing to keep
	for n, k := range []cache.Key{cache.Content(object.ContentOf(b)), key(1)} {
		f, err := c.Store(t.Context(), k, int64(len(b)), func(_ context.Context, w cache.Writer) error {
			_, err := w.Write(b[:3])
			if names := files(t, dir); names != 0 || len(unfinished(t, dir)) != 1 {
				t.Errorf("key %d: %d files have names, %d have none", n, names, len(unfinished(t, dir)))
			}
			_, err2 := w.Write(b[3:])
			return errors.Join(err, err2)
		})
		if err != nil {
			t.Fatal(err)
		}
		f.Close() //nolint:errcheck // read only
		c.Remove(k)
	}
}
