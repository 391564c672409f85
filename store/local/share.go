package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/store"
)

// Two more files beside the lock's, of which nothing but their locks counts.
// sharedName is locked, shared, by each process that will let others have the
// lock in between; waitingName, shared, by each that waits for its turn.
const (
	sharedName  = ".rootstock.shared"
	waitingName = ".rootstock.waiting"
)

// turnPause is how often a lock that is shared is asked for.
const turnPause = 20 * time.Millisecond

// Share implements [store.Sharer].
func (s *Store) Share(ctx context.Context) (done func() error, err error) {
	f, err := s.raise(ctx, sharedName)
	if err != nil {
		return nil, fmt.Errorf("share the lock: %w", err)
	}
	return f.Close, nil
}

// Awaited implements [store.Sharer].
func (s *Store) Awaited(context.Context) (bool, error) {
	awaited, err := s.raised(waitingName)
	if err != nil {
		return false, fmt.Errorf("look who waits for the lock: %w", err)
	}
	return awaited, nil
}

// turn waits until the lock is free, as long as somebody shares it. It returns
// the conflict it was given if nobody does.
func (s *Store) turn(ctx context.Context, conflict error) (*os.File, error) {
	shared, err := s.raised(sharedName)
	if err != nil || !shared {
		return nil, errors.Join(conflict, err)
	}
	waiting, err := s.raise(ctx, waitingName)
	if err != nil {
		return nil, err
	}
	defer waiting.Close() //nolint:errcheck // nothing was written through it
	for {
		f, err := s.tryLock(lockName)
		if !errors.Is(err, store.ErrConflict) {
			return f, err
		}
		if shared, serr := s.raised(sharedName); serr != nil || !shared {
			return nil, errors.Join(err, serr)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(turnPause):
		}
	}
}

// raise locks a file of the directory until it is closed, beside others who do.
func (s *Store) raise(ctx context.Context, name string) (*os.File, error) {
	f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := retryEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) })
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("flock %s: %w", f.Name(), err), f.Close())
		}
		select { // somebody is looking
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(time.Millisecond):
		}
	}
}

// raised reports whether anybody has the file locked.
func (s *Store) raised(name string) (bool, error) {
	f, err := os.OpenFile(s.path(name), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	err = retryEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, f.Close()
	}
	return false, errors.Join(err, f.Close())
}
