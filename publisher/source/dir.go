package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// OpenDir opens a directory. It is read when its one layer is: everything by
// descriptor, from the root down, so that no link is followed, in the order of
// the names' bytes. What changes meanwhile is an error that names it; but two
// files that change in step with the reading, one before and one after it, are
// seen as they were at two moments: only a snapshot has one moment.
func OpenDir(ctx context.Context, dir string, o Options) (*Source, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(abs)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: directory %s", ErrNotFound, dir)
	case err != nil:
		return nil, err
	case !st.IsDir():
		return nil, fmt.Errorf("%w: %s is not a directory", ErrUnsupported, dir)
	}
	s := &Source{Kind: KindDir, Spelled: filepath.Base(abs)}
	s.Layers = []Layer{&made{
		what:    "directory " + dir,
		size:    -1,
		write:   func(ctx context.Context, t *tar.Writer) error { return readDir(ctx, t, abs, o.withDefaults().MaxBytes) },
		learned: func(g got) error { s.Digest = g.digest; return nil },
	}}
	return s, nil
}

// walk is one reading of a directory.
type walk struct {
	ctx   context.Context
	tar   *tar.Writer
	dev   uint64
	left  int64 // bytes that may still be read
	links map[inode]linked
	buf   []byte
}

// inode names a file whatever its names.
type inode struct{ dev, ino uint64 }

// linked is a file that may have further names.
type linked struct {
	first string
	st    unix.Stat_t
}

func readDir(ctx context.Context, t *tar.Writer, root string, most int64) error {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	w := &walk{ctx, t, st.Dev, most, map[inode]linked{}, make([]byte, chunkBytes)}
	return w.dir(fd, "", &st)
}

// dir writes an open directory and all below it, and closes fd.
func (w *walk) dir(fd int, path string, st *unix.Stat_t) error {
	f := os.NewFile(uintptr(fd), path) //nolint:gosec // a descriptor is small
	defer f.Close()                    //nolint:errcheck // only read from
	if st.Dev != w.dev {
		return fmt.Errorf("%q: %w: another file system is mounted there; unmount it, or publish it by itself", path, ErrUnsupported)
	}
	h, err := w.header(path+"/", st, fd)
	if err == nil {
		err = w.tar.WriteHeader(h)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	slices.Sort(names)
	for _, name := range names {
		at := name
		if path != "" {
			at = path + "/" + name
		}
		if err := w.entry(fd, name, at); err != nil {
			return err
		}
	}
	return w.same(fd, path, st)
}

// entry writes the entry name of the directory parent, whose path is at.
func (w *walk) entry(parent int, name, at string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%q: %w", at, gone(err))
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		fd, err := w.open(parent, name, &st, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return fmt.Errorf("%q: %w", at, err)
		}
		return w.dir(fd, at, &st)
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if l, ok := w.links[id]; ok {
			if !unchanged(&l.st, &st) {
				return fmt.Errorf("%q, another name of %q: %w", at, l.first, errChanged)
			}
			return w.tar.WriteHeader(&tar.Header{Name: at, Linkname: l.first, Typeflag: tar.TypeLink, Format: tar.FormatPAX})
		}
		w.links[id] = linked{at, st}
	}
	if err := w.node(parent, name, at, &st); err != nil {
		return fmt.Errorf("%q: %w", at, err)
	}
	return nil
}

// node writes what is no directory.
func (w *walk) node(parent int, name, at string, st *unix.Stat_t) error {
	flags := unix.O_PATH // which opens nothing: a pipe would wait, a device would act
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		flags = unix.O_RDONLY | unix.O_NONBLOCK
	}
	fd, err := w.open(parent, name, st, flags)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	h, err := w.header(at, st, fd)
	if err != nil {
		return err
	}
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	if h.Size > 0 {
		if err := w.content(fd, h.Size); err != nil {
			return err
		}
	}
	return w.same(fd, "", st)
}

// open opens what st described a moment ago, and nothing else.
func (w *walk) open(parent int, name string, st *unix.Stat_t, flags int) (int, error) {
	fd, err := unix.Openat(parent, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			return -1, errChanged
		}
		return -1, gone(err)
	}
	if err := w.same(fd, "", st); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (w *walk) content(fd int, size int64) error {
	if w.left -= size; w.left < 0 {
		return fmt.Errorf("%w: the files up to here have %d bytes more than may be published", ErrTooLarge, -w.left)
	}
	for size > 0 {
		n, err := unix.Read(fd, w.buf[:min(int64(len(w.buf)), size)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return errChanged
		}
		if _, err := w.tar.Write(w.buf[:n]); err != nil {
			return err
		}
		if size -= int64(n); w.ctx.Err() != nil {
			return w.ctx.Err()
		}
	}
	return nil
}

var errChanged = errors.New("it changed while it was being read; publish a directory that nobody writes to, or a snapshot of it")

// gone says what it means that a listed name is not there.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return errChanged
	}
	return err
}

// same fails if fd is not, or no longer, what st says.
func (w *walk) same(fd int, path string, st *unix.Stat_t) error {
	var now unix.Stat_t
	err := unix.Fstat(fd, &now)
	if err == nil && !unchanged(st, &now) {
		err = errChanged
	}
	if err != nil && path != "" {
		return fmt.Errorf("%q: %w", path, err)
	}
	return err
}

// unchanged compares all that a change of content or attributes changes: the
// kernel sets the change time whatever a program does to the others.
func unchanged(a, b *unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Mode == b.Mode && a.Size == b.Size && a.Nlink == b.Nlink &&
		a.Mtim == b.Mtim && a.Ctim == b.Ctim && a.Rdev == b.Rdev
}

// procPath reaches an inode by its descriptor, also one opened with O_PATH, for
// calls that take no such descriptor.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
