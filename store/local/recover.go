package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/object"
)

// recover removes objects as young as since, or younger, that are not what
// their name says, and makes the others durable, since they will be taken for
// present from now on.
func (s *Store) recover(ctx context.Context, since time.Time) error {
	buf := make([]byte, 256<<10)
	err := s.walk(ctx, "data/", func(name string, info fs.FileInfo) error {
		if info.ModTime().Before(since) {
			return nil
		}
		whole, err := verify(s.path(name), name, buf)
		if err != nil || whole {
			return err
		}
		if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.syncfs(int(s.data.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", s.dir, err)
	}
	return os.Remove(s.path(dirtyName))
}

// verify reports whether the object in path hashes to name. What is no object
// by its name is nobody's, and left alone.
func verify(path, name string, buf []byte) (bool, error) {
	want, _, ok := object.ParsePath(name)
	if !ok {
		return true, nil
	}
	f, err := os.Open(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	// After a failed write-back the page cache shows what is not on disk.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return false, fmt.Errorf("fadvise %s: %w", path, err)
	}
	sum := want.Algorithm.New()
	if _, err := io.CopyBuffer(sum, onlyReader{f}, buf); err != nil {
		return false, err
	}
	return object.FromSum(want.Algorithm, sum) == want, nil
}

// onlyReader hides *os.File's WriteTo, which would not use the buffer.
type onlyReader struct{ io.Reader }

// clearTemp removes the temporary files of publishers that died.
func (s *Store) clearTemp() error {
	for _, of := range []struct{ dir, prefix string }{{txnDir, tempPrefix}, {"", rootTempPrefix}} {
		entries, err := os.ReadDir(s.path(of.dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("find temporary files: %w", err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), of.prefix) {
				continue
			}
			if err := os.Remove(filepath.Join(s.path(of.dir), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove temporary file: %w", err)
			}
		}
	}
	return nil
}
