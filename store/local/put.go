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
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/store"
)

// Temporary files lie on the file system they are renamed on. Their names mark
// them as ours; those of stock tools are left alone.
const (
	txnDir         = "data/txn"
	tempPrefix     = "rootstock-"
	rootTempPrefix = ".rootstock.tmp-"
)

// Put stores data under name as a whole or not at all. An object that is there
// already costs one stat, unless its size shows that it cannot be that object:
// then it is damage, and replaced. A root file is made durable at once, since
// there are few and nothing tells when one is damaged.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, name); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	path := s.path(name)
	if !store.IsObject(name) {
		if err := s.replace(path, data); err != nil {
			return fmt.Errorf("put %s: %w", name, err)
		}
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == int64(len(data)) {
		return nil
	}
	if err := s.putObject(ctx, path, data); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

// replace writes a root file durably.
func (s *Store) replace(path string, data []byte) error {
	temp, err := s.writeTemp("", rootTempPrefix, data, fileMode, time.Time{}, true)
	if err != nil {
		return err
	}
	if err := rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeTemp writes a file in dir, synced if it is to be durable, and returns its
// path. It leaves nothing behind when it fails. A mtime that is not zero becomes
// the file's.
func (s *Store) writeTemp(dir, prefix string, data []byte, mode fs.FileMode, mtime time.Time, durable bool) (string, error) {
	temp := filepath.Join(s.dir, dir, prefix+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrNotExist) { // a repository copied without its empty directories
		if err = os.MkdirAll(filepath.Dir(temp), dirMode); err == nil {
			f, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		}
	}
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // a web server must read it, whatever the umask
	}
	if err == nil && !mtime.IsZero() {
		err = os.Chtimes(temp, time.Time{}, mtime)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(temp))
	}
	return temp, nil
}

// rename moves a temporary file into place, and removes it if that fails.
func rename(temp, path string) error {
	// Not os.Rename, which looks at path first.
	err := unix.Rename(temp, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), dirMode); err == nil {
			err = unix.Rename(temp, path)
		}
	}
	if err != nil {
		return errors.Join(&os.LinkError{Op: "rename", Old: temp, New: path, Err: err}, os.Remove(temp))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Swap replaces name by next, durably, if it holds old. Swaps of all processes
// exclude each other for its duration.
func (s *Store) Swap(ctx context.Context, name string, old, next []byte) error {
	if err := check(ctx, name); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	release, err := s.flock(ctx, swapName)
	if err != nil {
		return fmt.Errorf("swap %s: %w", name, err)
	}
	defer release()
	path := s.path(name)
	holds, err := contains(path, old)
	if err != nil {
		return fmt.Errorf("swap %s: %w", name, err)
	}
	if !holds {
		return fmt.Errorf("swap %s: %w: it is not what it was when this began; begin again", path, store.ErrConflict)
	}
	if err := s.replace(path, next); err != nil {
		return fmt.Errorf("swap %s: %w", name, err)
	}
	return nil
}

// contains reports whether path holds want, or is not there for a nil want.
func contains(path string, want []byte) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return want == nil, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	if want == nil {
		return false, nil
	}
	got, err := io.ReadAll(io.LimitReader(f, int64(len(want))+1))
	if err != nil {
		return false, err
	}
	return string(got) == string(want), nil
}
