package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/store"
)

const (
	lockName = ".rootstock.lock"
	swapName = ".rootstock.swap"
	// maxOwner bounds what is kept and shown of a lock's holder, in bytes.
	maxOwner = 512
)

// Lock makes the caller the only publisher in this directory, of all processes
// of this machine. The kernel releases the lock when the process dies, however
// it dies. Taking it clears away what a dead one left: temporary files, and
// objects that a power cut damaged.
//
// While a process shares the lock ([Store.Share]), a caller waits for its turn
// instead of being refused.
//
// The file stays when the lock is released: were it removed, two processes
// could hold locks on two files of one name.
func (s *Store) Lock(ctx context.Context, owner string) (unlock func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := s.tryLock(lockName)
	// Who has just come has not written yet, who is going has wiped it out.
	for range namePatience {
		if !errors.Is(err, errNameless) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		f, err = s.tryLock(lockName)
	}
	if errors.Is(err, store.ErrConflict) {
		f, err = s.turn(ctx, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	s.setLocked(true)
	release := sync.OnceValue(func() error {
		s.setLocked(false)
		err := f.Truncate(0)
		return errors.Join(err, f.Close()) // closing unlocks
	})
	defer func() {
		if err != nil {
			err = errors.Join(err, release())
		}
	}()
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if _, err := f.WriteAt([]byte(printable(owner)), 0); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := s.clearTemp(); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := s.adopt(ctx, false); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return release, nil
}

func (s *Store) setLocked(locked bool) {
	s.lockMu.Lock()
	s.locked = locked
	s.lockMu.Unlock()
}

func (s *Store) holdsLock() bool {
	s.lockMu.Lock()
	defer s.lockMu.Unlock()
	return s.locked
}

// errNameless is the conflict with somebody whose name cannot be read.
var errNameless = fmt.Errorf("%w", store.ErrConflict)

// namePatience is how often, at 10 ms, a name is looked for again.
const namePatience = 20

// tryLock locks a file of the directory, or returns store.ErrConflict with
// what the holder wrote into it.
func (s *Store) tryLock(name string) (*os.File, error) {
	f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = retryEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		text, rerr := io.ReadAll(io.LimitReader(f, maxOwner))
		holder := printable(string(text))
		conflict := store.ErrConflict
		if rerr != nil || holder == "" {
			holder, conflict = "somebody who left no name", errNameless
		}
		err = fmt.Errorf("%s: %w: %s is publishing; try again when that has ended", s.dir, conflict, holder)
	default:
		err = fmt.Errorf("flock %s: %w", f.Name(), err)
	}
	return nil, errors.Join(err, f.Close())
}

// flock waits for a lock that others hold for moments only.
func (s *Store) flock(ctx context.Context, name string) (release func(), err error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		f, err := s.tryLock(name)
		if err == nil {
			return func() { f.Close() }, nil //nolint:errcheck // nothing was written through it
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

func retryEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// printable makes a text from a file or a caller fit for a message.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), maxOwner)], "")
}
