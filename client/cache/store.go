package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/object"
)

// Writer takes the bytes of a content. Reset drops what was written so far.
type Writer interface {
	io.Writer
	Reset() error
}

// Store opens the content k names, writing it first if it is not there. fill
// is called at most once for all concurrent callers; it must write exactly
// size bytes (any number if size is negative) and verify them: what it leaves
// behind without an error is trusted. Its context ends when nobody waits any
// more. The caller closes the file.
//
// If the disk cannot take the content, the error is ErrCannotStore, for all
// who waited.
func (c *Cache) Store(ctx context.Context, k Key, size int64, fill func(context.Context, Writer) error) (*os.File, error) {
	return c.store(ctx, k, func(ctx context.Context) error { return c.write(ctx, k, size, fill) })
}

// Ensure is [Cache.Store] for somebody who does not read the content now. Whoever
// comes first does the work itself, and stays with it while others wait.
func (c *Cache) Ensure(ctx context.Context, k Key, size int64, fill func(context.Context, Writer) error) error {
	if c.Has(k) {
		return nil
	}
	return c.coalesceHere(ctx, k, func(ctx context.Context) error {
		if c.Has(k) {
			return nil
		}
		return c.write(ctx, k, size, fill)
	})
}

func (c *Cache) write(ctx context.Context, k Key, size int64, fill func(context.Context, Writer) error) error {
	if err := c.reserve(max(0, size)); err != nil {
		return err
	}
	defer c.release(max(0, size))
	t, err := c.create()
	if err != nil {
		return err
	}
	defer t.abandon()
	if err := fill(ctx, t); err != nil {
		return err
	}
	if size >= 0 && t.n != size {
		return fmt.Errorf("%w: %d bytes, not %d", ErrContent, t.n, size)
	}
	t.kept, err = c.commit(t.f, t.path, object.ContentID(t.sum.Sum(nil)), k)
	return err
}

// StorePath is Store for content that fill makes as a file at a path of the
// cache's choosing, where nothing is yet.
func (c *Cache) StorePath(ctx context.Context, k Key, fill func(ctx context.Context, path string) error) (*os.File, error) {
	return c.store(ctx, k, func(ctx context.Context) error {
		dir, err := os.MkdirTemp(filepath.Join(c.dir, "txn"), "")
		if err != nil {
			return c.broken(err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // the next start removes it
		path := filepath.Join(dir, "file")
		err = fill(ctx, path)
		if err != nil && c.makeRoom(err, 1) {
			os.Remove(path) //nolint:errcheck // it may not have come to that
			err = fill(ctx, path)
		}
		if isFull(err) && !errors.Is(err, ErrCannotStore) {
			err = c.broken(err)
		}
		if err != nil {
			return err
		}
		f, err := os.Open(path) // #nosec G304 -- our own directory
		if err != nil {
			return c.broken(err)
		}
		defer f.Close() //nolint:errcheck // read only
		sum := sha256.New()
		n, err := io.Copy(sum, f)
		if err != nil {
			return c.broken(err)
		}
		if err := c.reserve(n); err != nil {
			return err
		}
		defer c.release(n)
		_, err = c.commit(f, path, object.ContentID(sum.Sum(nil)), k)
		return err
	})
}

func (c *Cache) store(ctx context.Context, k Key, work func(context.Context) error) (*os.File, error) {
	f, ok := c.Lookup(ctx, k)
	if ok {
		return f, nil
	}
	c.Pin(k)
	defer c.Unpin(k)
	// More than once only if what was just stored is removed, damaged or,
	// pinned as it is, evicted before it is opened.
	for range 10 {
		err := c.coalesce(ctx, k, func(ctx context.Context) error {
			if c.Has(k) {
				return nil // stored by a flight that ended since it was looked for
			}
			return work(ctx)
		})
		if err != nil {
			return nil, err
		}
		if f, err = c.lookup(ctx, k); err == nil {
			return f, nil
		}
	}
	return nil, fmt.Errorf("%w: what is stored does not stay", ErrCannotStore)
}

// Alias gives the content k names another name. It reports false if k is not
// present.
func (c *Cache) Alias(k, alias Key) (bool, error) {
	c.disk.Lock()
	defer c.disk.Unlock()
	c.mu.Lock()
	e, ok := c.index.find(k)
	c.mu.Unlock()
	if !ok {
		return false, nil
	}
	return true, c.linkName(e.sum, alias)
}

// temp is a content being written.
type temp struct {
	c    *Cache
	f    *os.File
	path string
	sum  hash.Hash
	n    int64
	kept bool // path is gone: renamed into place
}

func (c *Cache) create() (*temp, error) {
	// The directory is ours alone and was emptied at the start; where files get
	// their names, containers look without asking whether one is whole. The mode
	// is the final one, which spares a change of it.
	path := c.dir + "/txn/w" + strconv.FormatUint(c.written.Add(1), 10)
	open := func() (*os.File, error) {
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, contentMode) // #nosec G302 G304 -- containers read it; our own directory
	}
	f, err := open()
	if err != nil && c.makeRoom(err, 1) {
		f, err = open()
	}
	if err != nil {
		return nil, c.broken(err)
	}
	return &temp{c: c, f: f, path: path, sum: sha256.New()}, nil
}

// contentMode is that of all contents: users of all containers read them, and
// nobody writes.
const contentMode = 0o444

// Write goes on where a full disk stopped it after making room.
func (t *temp) Write(p []byte) (int, error) {
	done := 0
	for {
		n, err := t.f.Write(p[done:])
		done += n
		if err == nil {
			t.sum.Write(p) //nolint:errcheck // never fails
			t.n += int64(len(p))
			return len(p), nil
		}
		if !t.c.makeRoom(err, int64(len(p)-done)) {
			return done, t.c.broken(err)
		}
	}
}

func (t *temp) Reset() error {
	t.sum.Reset()
	t.n = 0
	if err := t.f.Truncate(0); err != nil {
		return t.c.broken(err)
	}
	if _, err := t.f.Seek(0, io.SeekStart); err != nil {
		return t.c.broken(err)
	}
	return nil
}

// abandon removes what was not committed.
func (t *temp) abandon() {
	t.f.Close() //nolint:errcheck // the content is committed or unwanted
	if !t.kept {
		os.Remove(t.path) //nolint:errcheck // the next start removes it
	}
}

// commit makes the verified file at path visible as the content sum under its
// own name and as k. moved is false if path is still there, because the content
// was present or something failed.
func (c *Cache) commit(f *os.File, path string, sum object.ContentID, k Key) (moved bool, err error) {
	if k.space == contents && k.sum != sum {
		return false, fmt.Errorf("%w: %s holds %s", ErrContent, k.sum, sum)
	}
	info, err := f.Stat()
	if err != nil {
		return false, c.broken(err)
	}
	if info.Mode().Perm() != contentMode { // by the umask, or made by somebody else
		if err := f.Chmod(contentMode); err != nil {
			return false, c.broken(err)
		}
	}
	// No descriptor may be left that could write: an overlay would refuse to
	// execute the file.
	f.Close() //nolint:errcheck // a failed write was reported by write
	c.disk.Lock()
	defer c.disk.Unlock()
	if err := c.noteStored(info.ModTime()); err != nil {
		return false, c.broken(err)
	}
	c.mu.Lock()
	_, present := c.index.byContent[sum]
	c.mu.Unlock()
	if present {
		return false, c.linkName(sum, k)
	}
	// The other name first: each is a change of the file, and it is looked at
	// once, when both are made.
	if k.space != contents {
		if err := c.link(path, k); err != nil {
			return false, c.broken(err)
		}
	}
	// Not os.Rename, which looks first whether the target is a directory.
	if err := c.retryNoDir(sum.CachePath(), func(to string) error { return unix.Rename(path, to) }); err != nil {
		if k.space != contents {
			os.Remove(filepath.Join(c.dir, k.path())) //nolint:errcheck // the next start sees it
		}
		return false, c.broken(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(c.dir, sum.CachePath()), &st); err != nil {
		return true, c.broken(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.memory = memory{inUse: c.memory.inUse} // the disk works
	c.index.add(entry{sum: sum, size: info.Size(), file: fileOf(&st), checked: true})
	c.index.name(sum, k)
	return true, nil
}

// link gives the file at from the name k on disk.
func (c *Cache) link(from string, k Key) error {
	return c.retryNoDir(k.path(), func(to string) error {
		err := os.Link(from, to)
		if errors.Is(err, fs.ErrExist) {
			if err = os.Remove(to); err == nil {
				err = os.Link(from, to)
			}
		}
		return err
	})
}

// linkName adds a name on disk and in the index. disk is held.
func (c *Cache) linkName(sum object.ContentID, k Key) error {
	if k.space == contents {
		return nil
	}
	from := filepath.Join(c.dir, sum.CachePath())
	if err := c.link(from, k); err != nil {
		return c.broken(err)
	}
	var st unix.Stat_t
	err := unix.Lstat(from, &st)
	c.mu.Lock()
	c.index.name(sum, k)
	// A new name is a change, too. Where something else may have changed as
	// well, the next lookup sees that and reads the file.
	if n, ok := c.index.byContent[sum]; ok && err == nil {
		if f := &c.index.entries[n].file; f.ino == st.Ino && f.mtime == st.Mtim.Nano() {
			f.ctime = st.Ctim.Nano()
		}
	}
	c.mu.Unlock()
	return nil
}

// makeDirs makes the directories that nearly every content needs, so that a
// container's start on a new cell does not wait for them: making one can take as
// long as fetching what goes there. What fails is tried again by retryNoDir.
func (c *Cache) makeDirs() {
	for i := range 256 {
		for _, s := range [...]space{contents, objects} {
			select {
			case <-c.stop:
				return
			default:
			}
			_ = os.Mkdir(filepath.Join(c.dir, directory[s], fmt.Sprintf("%02x", i)), 0o700)
		}
	}
}

// retryNoDir makes the directory of a name when it turns out to be missing.
func (c *Cache) retryNoDir(name string, place func(path string) error) error {
	path := filepath.Join(c.dir, name)
	err := place(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return place(path)
}

// broken marks an error of the cache's disk.
func (c *Cache) broken(err error) error {
	c.mu.Lock()
	c.stats.Refused++
	c.mu.Unlock()
	return fmt.Errorf("%w: %w", ErrCannotStore, hideNotExist(err))
}

// hideNotExist keeps a name missing in the cache's directory from looking like
// a file missing in the repository.
func hideNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
