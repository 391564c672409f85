package cache

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/object"
)

// found is a content on disk with what orders it.
type found struct {
	entry
	used int64 // UNIX nanoseconds: read or written last, as the disk knows it
}

// load learns what the directory holds. After an unclean stop it verifies
// everything that the last sync point does not vouch for.
func (c *Cache) load() error {
	clean, at, err := c.readSyncPoint()
	if err != nil {
		return err
	}
	if err := c.emptyTxn(); err != nil {
		return err
	}
	list, byInode, err := c.scanContents()
	if err != nil {
		return err
	}
	for _, s := range []space{objects, catalogs} {
		if err := c.scanNames(s, byInode); err != nil {
			return err
		}
	}
	slices.SortFunc(list, func(a, b *found) int { return cmp.Compare(a.used, b.used) })
	for _, f := range list {
		if !clean && !c.o.Continued && suspect(time.Unix(0, f.file.mtime), at) && !c.sound(f) {
			c.stats.Discarded++
			c.unlinkAll(f.entry)
			continue
		}
		c.index.add(f.entry)
	}
	if clean {
		return c.setSyncPoint(c.o.Clock())
	}
	// What is younger was verified, out of memory it may be: only the next sync
	// puts it on the disk for good.
	c.sync = syncPoint{at: at, stored: true}
	if at.IsZero() {
		return c.setSyncPoint(time.Unix(0, 0))
	}
	return nil
}

// suspect reports whether a file of that time may have been written after the
// sync point at.
func suspect(mtime, at time.Time) bool { return !mtime.Before(at.Add(-clockSlack)) }

func (c *Cache) sound(f *found) bool {
	file, err := os.Open(filepath.Join(c.dir, f.sum.CachePath()))
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // read only
	if verify(context.Background(), file, f.sum) != nil {
		return false
	}
	f.checked = true
	return true
}

func (c *Cache) emptyTxn() error {
	txn := filepath.Join(c.dir, "txn")
	list, err := os.ReadDir(txn)
	if err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	for _, e := range list {
		if err := os.RemoveAll(filepath.Join(txn, e.Name())); err != nil {
			return fmt.Errorf("cache directory: %w", err)
		}
	}
	return nil
}

func (c *Cache) scanContents() ([]*found, map[uint64]*found, error) {
	var list []*found
	byInode := map[uint64]*found{}
	err := c.scanSpace(contents, func(sum object.ContentID, path string, ino uint64) error {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("cache file %s: %w", path, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil
		}
		f := &found{entry: entry{sum: sum, size: st.Size, file: fileOf(&st)}, used: max(st.Atim.Nano(), st.Mtim.Nano())}
		list, byInode[ino] = append(list, f), f
		return nil
	})
	return list, byInode, err
}

// scanNames finds the further names of contents by their inode number, without
// a stat for each, and removes those that name nothing any more.
func (c *Cache) scanNames(s space, byInode map[uint64]*found) error {
	return c.scanSpace(s, func(sum object.ContentID, path string, ino uint64) error {
		if f, ok := byInode[ino]; ok {
			f.names = append(f.names, Key{s, sum})
			return nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cache file %s: %w", path, err)
		}
		return nil
	})
}

// scanSpace calls yield for every well-named file of a name space. Files of
// other names are none of ours and left alone.
func (c *Cache) scanSpace(s space, yield func(sum object.ContentID, path string, ino uint64) error) error {
	buf := make([]byte, 64<<10)
	for b := range 256 {
		xx := fmt.Sprintf("%02x", b)
		dir := filepath.Join(c.dir, directory[s]+xx)
		err := readDir(dir, buf, func(name string, ino uint64) error {
			if sum, ok := parseName(xx, name); ok {
				return yield(sum, dir+"/"+name, ino)
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readDir is os.ReadDir with inode numbers, which the kernel sends anyway.
func readDir(dir string, buf []byte, yield func(name string, ino uint64) error) error {
	f, err := os.Open(dir) // #nosec G304 -- our own directory
	if err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	for {
		n, err := unix.Getdents(int(f.Fd()), buf)
		if err != nil {
			return fmt.Errorf("cache directory %s: %w", dir, err)
		}
		if n == 0 {
			return nil
		}
		for b := buf[:n]; len(b) > 0; {
			// struct linux_dirent64: ino, off, reclen, type, name, NUL.
			ino, size := binary.NativeEndian.Uint64(b), int(binary.NativeEndian.Uint16(b[16:]))
			if err := yield(unix.ByteSliceToString(b[19:size]), ino); err != nil {
				return err
			}
			b = b[size:]
		}
	}
}
