package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/store"
)

// draft is an object in data/txn that is not in its place yet.
//
// There are tens of thousands in a publish, so it goes without os.File, which
// asks each new descriptor whether it can be polled.
type draft struct {
	s          *Store
	temp, path string // path is where it is to be
	fd         int    // -1 once closed
	size       int64
}

// Draft begins an object; the caller closes it.
func (s *Store) Draft(ctx context.Context, name string) (store.Draft, error) {
	if err := check(ctx, name); err != nil {
		return nil, fmt.Errorf("put: %w", err)
	}
	if !store.IsObject(name) {
		return nil, fmt.Errorf("put %s: %w: no object", name, fs.ErrInvalid)
	}
	d := s.draft(s.path(name))
	if err := d.open(); err != nil {
		return nil, fmt.Errorf("put %s: %w", name, err)
	}
	return d, nil
}

func (s *Store) draft(path string) *draft {
	return &draft{s: s, temp: filepath.Join(s.dir, txnDir, tempPrefix+rand.Text()), path: path, fd: -1}
}

// putObject is a draft from one buffer.
func (s *Store) putObject(ctx context.Context, path string, data []byte) error {
	d := s.draft(path)
	if err := d.open(); err != nil {
		return err
	}
	_, err := d.Write(data)
	if err == nil {
		_, err = d.Commit(ctx)
	}
	return errors.Join(err, d.Close())
}

func (d *draft) open() (err error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC
	d.fd, err = open(d.temp, flags)
	if errors.Is(err, fs.ErrNotExist) { // a repository copied without its empty directories
		if err = os.MkdirAll(filepath.Dir(d.temp), dirMode); err == nil {
			d.fd, err = open(d.temp, flags)
		}
	}
	if err != nil {
		d.fd = -1
		return &fs.PathError{Op: "open", Path: d.temp, Err: err}
	}
	return nil
}

func (d *draft) Write(p []byte) (int, error) {
	if err := writeAll(d.fd, p); err != nil {
		return 0, d.failed("write", err)
	}
	d.size += int64(len(p))
	return len(p), nil
}

func (d *draft) Reset() error {
	if d.size == 0 {
		return nil
	}
	err := unix.Ftruncate(d.fd, 0)
	if err == nil {
		_, err = unix.Seek(d.fd, 0, io.SeekStart)
	}
	d.size = 0
	return d.failed("truncate", err)
}

// Commit gives the file its mode and the generation's time, and renames it into
// place.
func (d *draft) Commit(ctx context.Context) (int64, error) {
	s := d.s
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("put %s: %w", d.path, err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	if err := d.readable(); err != nil {
		return 0, d.failed("mode of", err)
	}
	t := unix.NsecToTimespec(s.generation.UnixNano())
	if err := d.shut(); err != nil {
		return 0, err
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, d.temp, []unix.Timespec{t, t}, 0); err != nil {
		return 0, d.failed("time of", err)
	}
	s.puts.Add(1)
	err := rename(d.temp, d.path)
	d.temp = "" // in its place, or removed
	return d.size, err
}

// readable lets a web server read the file, whatever the umask. To look first
// is much cheaper than to change nothing.
func (d *draft) readable() error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil || st.Mode&0o777 == fileMode {
		return err
	}
	return unix.Fchmod(d.fd, fileMode)
}

func (d *draft) Close() error {
	err := d.shut()
	if d.temp != "" {
		err = errors.Join(err, os.Remove(d.temp))
		d.temp = ""
	}
	return err
}

// shut closes the file. Some file systems say only then that they are full.
func (d *draft) shut() error {
	if d.fd < 0 {
		return nil
	}
	err := unix.Close(d.fd)
	d.fd = -1
	return d.failed("close", err)
}

func (d *draft) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: d.temp, Err: err}
}

func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags, fileMode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		default:
			data = data[n:]
		}
	}
	return nil
}
