// Package store is where a publisher keeps a repository: a place for immutable
// objects and a few mutable root files, the last of which, the manifest, is
// swapped atomically and makes a revision visible.
//
// Names are paths relative to the repository's root, as a web server would
// serve them: data/5f/…, .cvmfspublished. Implementations live in their own
// packages and all pass the suite in storetest.
package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"
)

var (
	// ErrNotExist reports a name that is not there. It is fs.ErrNotExist.
	ErrNotExist = fs.ErrNotExist
	// ErrConflict reports a swap whose expectation no longer holds, or a
	// lock that somebody else has.
	ErrConflict = errors.New("somebody else changed the repository")
)

// Getter reads what a store holds.
type Getter interface {
	// Get opens name for reading; the caller closes it. It returns
	// ErrNotExist for a name that is not there.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
}

// Store is what a publisher needs of a place.
//
// Objects put are durable only after a Sync that began later has returned;
// Swap of the manifest must not happen before.
type Store interface {
	Getter
	// Has reports whether name is there, and its size in bytes.
	Has(ctx context.Context, name string) (size int64, ok bool, err error)
	// Put stores data under name as a whole or not at all. An object (a name
	// below data/) that is there already is left as it is.
	Put(ctx context.Context, name string, data []byte) error
	// Sync makes everything that was put durable, in one batch.
	Sync(ctx context.Context) error
	// Swap replaces name by next, durably, if it still holds old; old of nil
	// means that it must not be there. Otherwise it returns ErrConflict.
	Swap(ctx context.Context, name string, old, next []byte) error
	// Lock makes the caller the only publisher until it calls unlock. It
	// returns ErrConflict, naming the holder, if there is one already.
	Lock(ctx context.Context, owner string) (unlock func() error, err error)
}

// Drafter is a store that takes an object as it comes, so that nobody has to hold
// all of it in memory.
type Drafter interface {
	// Draft begins an object, a name below data/. The caller closes the
	// draft.
	Draft(ctx context.Context, name string) (Draft, error)
}

// Draft is an object on its way, for one goroutine. Nobody sees any of it before
// Commit.
type Draft interface {
	io.Writer
	// Reset drops what was written.
	Reset() error
	// Commit puts what was written, as Put does, and returns its size in
	// bytes. Only Close may follow.
	Commit(ctx context.Context) (size int64, err error)
	// Close gives back what the draft took, and drops it unless it was
	// committed.
	Close() error
}

// Sharer is a store whose lock can be handed over for a while by whoever has
// much to do.
type Sharer interface {
	// Share says, until done is called, that the caller will let others have
	// the lock in between: whoever finds it taken waits for its turn.
	Share(ctx context.Context) (done func() error, err error)
	// Awaited reports whether anybody waits.
	Awaited(ctx context.Context) (bool, error)
}

// Lister is a store that can name what it holds.
type Lister interface {
	// List calls yield for every name below prefix with its size in bytes,
	// in no order, until yield returns an error, which List then returns.
	List(ctx context.Context, prefix string, yield func(name string, size int64) error) error
}

// AgedLister is a Lister that knows for how long it has had what it holds.
type AgedLister interface {
	// ListAged is List with the time at which the name was put, as the
	// store's clock had it. The time may be too early, by as much as one
	// publish lasts, never too late by more than clocks differ.
	ListAged(ctx context.Context, prefix string, yield func(name string, size int64, put time.Time) error) error
}

// Deleter is a store that can forget.
type Deleter interface {
	// Delete removes name; a name that is not there is no error.
	Delete(ctx context.Context, name string) error
}
