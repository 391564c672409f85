package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/object"
)

// Lookup opens a content that is present. The caller closes the file.
//
// A file that is another one than was stored, or whose size or modification
// time changed, is noticed and removed. One of which only the change time is
// new, and each content at its first lookup after a restart, is read to check
// its digest; with a context that is done already, that counts as a miss.
func (c *Cache) Lookup(ctx context.Context, k Key) (*os.File, bool) {
	f, err := c.lookup(ctx, k)
	c.mu.Lock()
	if err == nil {
		c.stats.Hits++
	} else {
		c.stats.Misses++
	}
	c.mu.Unlock()
	return f, err == nil
}

var errAbsent = errors.New("not in the cache")

func (c *Cache) lookup(ctx context.Context, k Key) (*os.File, error) {
	for range 3 {
		f, e, err := c.openEntry(k)
		if err != nil || e.checked {
			return f, err
		}
		f.Close() //nolint:errcheck // read only
		if ctx.Err() != nil {
			return nil, errAbsent
		}
		// Once per process; many readers of one file check it once.
		err = c.coalesce(ctx, Key{checks, e.sum}, func(ctx context.Context) error { return c.check(ctx, e.sum) })
		if err != nil {
			return nil, err
		}
	}
	return nil, errAbsent
}

// Has reports whether a content is present, without looking at it.
func (c *Cache) Has(k Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.index.number(k)
	return ok
}

// Digest returns the SHA-256 of a content that is present.
func (c *Cache) Digest(k Key) (object.ContentID, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.index.find(k)
	return e.sum, ok
}

// openEntry opens what the index says is there and compares it with what the
// index remembers of it. The entry is that of the file as it is now, and not
// checked if its bytes have to be read to know what they are.
func (c *Cache) openEntry(k Key) (*os.File, entry, error) {
	c.mu.Lock()
	n, ok := c.index.number(k)
	var e entry
	if ok {
		c.index.touch(n)
		e = c.index.entries[n]
	}
	c.mu.Unlock()
	if !ok {
		return nil, e, errAbsent
	}
	f, err := os.Open(c.dir + "/" + e.sum.CachePath())
	if err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(int(f.Fd()), &st); err == nil {
			now := fileOf(&st)
			if st.Size == e.size && now.ino == e.file.ino && now.mtime == e.file.mtime {
				e.checked = e.checked && now.ctime == e.file.ctime
				e.file = now
				return f, e, nil
			}
		}
		f.Close() //nolint:errcheck // read only
	}
	c.discard(e.sum)
	return nil, e, errAbsent
}

// check reads a content and compares it with its name.
func (c *Cache) check(ctx context.Context, sum object.ContentID) error {
	f, e, err := c.openEntry(Content(sum))
	if err != nil || e.checked {
		if err == nil {
			f.Close() //nolint:errcheck // read only
		}
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	if err := verify(ctx, f, sum); err != nil {
		if ctx.Err() == nil {
			c.discard(sum)
		}
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.index.byContent[sum]; ok && c.index.entries[n].file.ino == e.file.ino {
		c.index.entries[n].checked, c.index.entries[n].file = true, e.file
	}
	return nil
}

func verify(ctx context.Context, r io.Reader, sum object.ContentID) error {
	h := sha256.New()
	if _, err := io.Copy(h, &interruptible{ctx, r}); err != nil {
		return fmt.Errorf("verify %s: %w", sum, err)
	}
	if got := object.ContentID(h.Sum(nil)); got != sum {
		return fmt.Errorf("%w: %s holds %s", ErrContent, sum, got)
	}
	return nil
}

type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// discard removes a damaged content.
func (c *Cache) discard(sum object.ContentID) {
	c.disk.Lock()
	defer c.disk.Unlock()
	c.mu.Lock()
	n, ok := c.index.byContent[sum]
	var e entry
	if ok {
		e = c.index.remove(n)
		c.stats.Discarded++
	}
	c.mu.Unlock()
	if ok {
		c.unlinkAll(e)
	}
}

// Remove forgets a content under all its names, say because what it means
// turned out to be unusable.
func (c *Cache) Remove(k Key) {
	c.mu.Lock()
	e, ok := c.index.find(k)
	c.mu.Unlock()
	if ok {
		c.discard(e.sum)
	}
}

// Drop takes a content out that nobody needs any more, under all its names,
// unless it is pinned after all.
func (c *Cache) Drop(k Key) {
	c.disk.Lock()
	defer c.disk.Unlock()
	c.mu.Lock()
	n, ok := c.index.number(k)
	var e entry
	if ok = ok && !c.pinned(&c.index.entries[n]); ok {
		e = c.index.remove(n)
	}
	c.mu.Unlock()
	if ok {
		c.unlinkAll(e)
	}
}

// unlinkAll is called with disk held, after the index forgot e.
func (c *Cache) unlinkAll(e entry) {
	for _, k := range e.names {
		os.Remove(filepath.Join(c.dir, k.path())) //nolint:errcheck // gone is what we want; if it stays, the next start sees it
	}
	os.Remove(filepath.Join(c.dir, e.sum.CachePath())) //nolint:errcheck // see above
}
