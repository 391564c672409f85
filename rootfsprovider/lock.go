package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errLocked reports that another process works on the handle.
var errLocked = errors.New("another process works on the container")

// lock is a file that one process at a time holds with flock(2); the kernel
// frees it when the process dies.
type lock struct{ f *os.File }

// takeLock waits for the lock at path until ctx ends.
func takeLock(ctx context.Context, path string) (lock, error) {
	pause := time.Millisecond
	for {
		l, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, 20*time.Millisecond)
		case <-ctx.Done():
			return lock{}, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// tryLock returns errLocked if somebody else has it.
func tryLock(path string) (lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return lock{}, fmt.Errorf("lock: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close() //nolint:errcheck // nothing is held
			if errors.Is(err, unix.EWOULDBLOCK) {
				return lock{}, errLocked
			}
			return lock{}, fmt.Errorf("lock %s: %w", path, err)
		}
		// Whoever had it may have removed the file meanwhile; then this is
		// a lock that nobody else will ever look at.
		held, err := f.Stat()
		if err == nil {
			if now, nerr := os.Stat(path); nerr == nil && os.SameFile(held, now) {
				return lock{f}, nil
			}
		}
		f.Close() //nolint:errcheck // see above
		if err != nil {
			return lock{}, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// release lets go and leaves the file for the handle's next lock.
func (l lock) release() { l.f.Close() } //nolint:errcheck // closing frees it, whatever it says

// remove lets go for good.
func (l lock) remove() error {
	err := os.Remove(l.f.Name())
	l.release()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}
