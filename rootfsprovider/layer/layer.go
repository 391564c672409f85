// Package layer looks after what a container left in its write layer: it
// measures it and removes it.
//
// The contents are hostile. They are reached descriptor by descriptor, never
// through a path that the container could have bent with a link, never out of
// the layer's file system, and with a bounded number of descriptors however
// deep the tree.
package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// maxDepth is how many descriptors a removal holds at most; what lies
	// deeper is moved up before it is removed.
	maxDepth = 64
	// maxMeasured is the depth that Bytes and Chown follow.
	maxMeasured = 1024
	// batch is how many names of a directory are read at a time.
	batch = 512
)

// openDir opens a directory of the tree without following links or leaving
// the file system.
func openDir(at int, name string) (*os.File, error) {
	fd, err := unix.Openat2(at, name, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV |
			unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// RemoveAll removes path and everything in it. Its parent is trusted; path
// itself and its contents are not. A path that is not there is no error. It
// clears immutable and append-only flags that are in the way, and fails with
// EBUSY or EXDEV where something is mounted in the tree.
func RemoveAll(ctx context.Context, path string) error {
	parent, err := os.Open(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	defer parent.Close() //nolint:errcheck // only read
	at, name := int(parent.Fd()), filepath.Base(path)
	if err := unlink(at, name, 0); err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	top, err := openDir(at, name)
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	defer top.Close() //nolint:errcheck // only read
	r := remover{ctx: ctx, top: top}
	if err := r.empty(top, 1); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	if err := unlink(at, name, unix.AT_REMOVEDIR); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

type remover struct {
	ctx   context.Context
	top   *os.File
	moved int // directories moved up into top, which names them
}

// empty removes everything in dir, which is the depth-th open directory.
func (r *remover) empty(dir *os.File, depth int) error {
	// Entries removed while a directory is read may make the kernel skip
	// others, and deep ones are moved into top: read until there is nothing.
	for {
		n, err := r.pass(dir, depth)
		if err != nil || n == 0 {
			return err
		}
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// pass reads dir once to its end and returns how many entries it removed.
func (r *remover) pass(dir *os.File, depth int) (removed int, err error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return removed, err
		}
		entries, err := dir.ReadDir(batch)
		for _, e := range entries {
			if err := r.remove(dir, e, depth); err != nil {
				return removed, err
			}
			removed++
		}
		if errors.Is(err, io.EOF) {
			return removed, nil
		}
		if err != nil {
			return removed, err
		}
	}
}

func (r *remover) remove(dir *os.File, e os.DirEntry, depth int) error {
	at, name := int(dir.Fd()), e.Name()
	if !e.IsDir() {
		if err := unlink(at, name, 0); !errors.Is(err, unix.EISDIR) {
			return named(name, err)
		}
	}
	if err := unlink(at, name, unix.AT_REMOVEDIR); !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return named(name, err)
	}
	if depth >= maxDepth {
		return r.moveUp(at, name)
	}
	sub, err := openDir(at, name)
	if err != nil {
		return named(name, err)
	}
	defer sub.Close() //nolint:errcheck // only read
	if err := r.empty(sub, depth+1); err != nil {
		return named(name, err)
	}
	return named(name, unlink(at, name, unix.AT_REMOVEDIR))
}

// moveUp makes a deep directory one of the topmost, to be removed from there.
func (r *remover) moveUp(at int, name string) error {
	for {
		r.moved++
		to := ".rootstock-removed-" + strconv.Itoa(r.moved)
		err := retryWithoutFlags(at, name, func() error {
			return unix.Renameat2(at, name, int(r.top.Fd()), to, unix.RENAME_NOREPLACE)
		})
		if !errors.Is(err, unix.EEXIST) { // the container may have thought of the name
			return named(name, err)
		}
	}
}

func named(name string, err error) error {
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if len(name) > 64 {
		name = name[:64] + "…"
	}
	return fmt.Errorf("%q: %w", name, err)
}

func unlink(at int, name string, flags int) error {
	return retryWithoutFlags(at, name, func() error { return unix.Unlinkat(at, name, flags) })
}

// retryWithoutFlags does act, and if that is not permitted, again without the
// attributes of the entry that forbid it to root. Its directory has lost them
// when it was such an entry itself.
func retryWithoutFlags(at int, name string, act func() error) error {
	err := act()
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	// A descriptor that opens nothing tells first what is there: opening a
	// device has effects of its own.
	fd, oerr := unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if oerr != nil {
		return act()
	}
	defer unix.Close(fd) //nolint:errcheck // only looked at
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFREG || st.Mode&unix.S_IFMT == unix.S_IFDIR) {
		if f, oerr := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); oerr == nil {
			clearFlags(f)
			unix.Close(f) //nolint:errcheck // only looked at
		}
	}
	return act()
}

// clearFlags takes the immutable and append-only attributes off, if the file
// system has them; the act that follows tells whether it helped.
func clearFlags(fd int) {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) == 0 {
		return
	}
	flags &^= unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND  // the same bits as FS_*_FL
	unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags)) //nolint:errcheck // see above
}
