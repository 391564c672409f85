// Package local is the store in a directory, laid out as CernVM-FS lays out a
// local stratum 0 (CVMFS-FORMAT 1.1), so that any web server can serve it and
// stock tools can work on it.
//
// An object is written to data/txn and renamed into place, without an fsync of
// its own; Sync makes all of them durable at once, before the manifest is
// swapped. What a power cut may do to objects in between, and how that is
// found, is told in dirty.go.
//
// Beside the format's files the directory holds .rootstock.lock (who
// publishes), .rootstock.shared and .rootstock.waiting (share.go), .rootstock.swap
// (a lock held for the moment of a swap) and data/.rootstock.dirty. They have mode 0600 and are not for the web.
//
// data may be a link to, or a mount of, another file system.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/store"
)

var (
	_ store.Store      = (*Store)(nil)
	_ store.Lister     = (*Store)(nil)
	_ store.AgedLister = (*Store)(nil)
	_ store.Deleter    = (*Store)(nil)
	_ store.Drafter    = (*Store)(nil)
)

const (
	fileMode = 0o644
	dirMode  = 0o755
)

// Store is a repository's directory. Its methods may be called concurrently.
type Store struct {
	dir string
	// data is an open descriptor of dir/data, which syncfs needs: it reports
	// write errors of the time since it was opened. Root files need none,
	// each is synced when it is written.
	data *os.File
	// syncfs is unix.Syncfs, but for tests.
	syncfs func(fd int) error

	// mu is held for reading during a Put, and for writing where Sync
	// compares puts. It is taken before markMu.
	mu     sync.RWMutex
	puts   atomic.Uint64 // objects put, ever
	markMu sync.Mutex
	// marked tells that the marker is on disk, durably, and generation is
	// its time; both change under markMu (and mu).
	marked     atomic.Bool
	generation time.Time
	// failed is why a Sync failed, nil if none did. Under mu.
	failed error

	// locked tells that this Store holds the lock. Under lockMu.
	lockMu sync.Mutex
	locked bool
}

// Create makes a new store in dir, which must not be there, or be empty: it
// refuses with fs.ErrExist a directory that holds a repository, or anything
// else. The caller closes the store.
func Create(dir string) (*Store, error) {
	if err := checkFree(dir); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("data/%02x", i)), dirMode); err != nil {
			return nil, fmt.Errorf("create repository: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, txnDir), dirMode); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	return Open(dir)
}

// checkFree allows what an interrupted Create leaves, but nothing else.
func checkFree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, ".cvmfspublished")); err == nil {
		return fmt.Errorf("%s holds a repository already: %w; publish to it, or name another directory", dir, fs.ErrExist)
	}
	for _, e := range entries {
		switch e.Name() {
		case "data", "lost+found", lockName, swapName, sharedName, waitingName:
		default:
			return fmt.Errorf("%s is not empty, it holds %s: %w; name an empty directory", dir, e.Name(), fs.ErrExist)
		}
	}
	return nil
}

// Open opens the store in dir; the caller closes it. It changes nothing there.
func Open(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	s := &Store{dir: abs, syncfs: unix.Syncfs}
	s.data, err = os.OpenFile(s.path("data"), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("there is no repository in %s: %w; rootstock init makes one", dir, err)
	} else if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	return s, nil
}

// Close gives back what Open took. What was put since the last Sync stays, but
// a power cut may harm it. A lock stays with its holder.
func (s *Store) Close() error {
	return s.data.Close()
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// Get opens name for reading. What it returns is an *os.File; the caller
// closes it.
func (s *Store) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := check(ctx, name); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	// Not blocking: should somebody have put a FIFO there, nobody waits.
	f, err := os.OpenFile(s.path(name), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("get: %w", absent(err))
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: f.Name(), Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("get: %w", err), f.Close())
	}
	return f, nil
}

// Has reports whether name is there as a regular file, and its size. Only
// under the lock does it tell that an object is whole, see dirty.go.
func (s *Store) Has(ctx context.Context, name string) (int64, bool, error) {
	if err := check(ctx, name); err != nil {
		return 0, false, fmt.Errorf("look for: %w", err)
	}
	info, err := os.Stat(s.path(name))
	if err = absent(err); errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	} else if err != nil {
		return 0, false, fmt.Errorf("look for: %w", err)
	}
	if !info.Mode().IsRegular() {
		return 0, false, nil
	}
	return info.Size(), true, nil
}

// absent turns "a component is no directory" into "not there".
func absent(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

func check(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Delete removes name; one that is not there is no error.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	err := unix.Unlink(s.path(name))
	if err != nil && !errors.Is(absent(err), fs.ErrNotExist) && !errors.Is(err, unix.EISDIR) {
		return fmt.Errorf("delete %s: %w", s.path(name), err)
	}
	return nil
}
