package local

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// writeObject writes an object to data/txn and returns the file's path; mtime
// becomes its own. It leaves nothing behind when it fails.
//
// There are tens of thousands in a publish, so it goes without os.File, which
// asks each new descriptor whether it can be polled.
func (s *Store) writeObject(data []byte, mtime time.Time) (string, error) {
	temp := filepath.Join(s.dir, txnDir, tempPrefix+rand.Text())
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC
	fd, err := open(temp, flags)
	if errors.Is(err, fs.ErrNotExist) { // a repository copied without its empty directories
		if err = os.MkdirAll(filepath.Dir(temp), dirMode); err == nil {
			fd, err = open(temp, flags)
		}
	}
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: temp, Err: err}
	}
	err = writeAll(fd, data)
	if err == nil {
		err = unix.Fchmod(fd, fileMode) // a web server must read it, whatever the umask
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err == nil {
		t := unix.NsecToTimespec(mtime.UnixNano())
		err = unix.UtimesNanoAt(unix.AT_FDCWD, temp, []unix.Timespec{t, t}, 0)
	}
	if err != nil {
		return "", errors.Join(&fs.PathError{Op: "write", Path: temp, Err: err}, os.Remove(temp))
	}
	return temp, nil
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
