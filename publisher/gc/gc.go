// Package gc deletes what nothing refers to any more: the objects of revisions
// that are no longer kept, and strays that an aborted publish left.
//
// [Collect] marks and sweeps. Marking walks the catalogs of every revision that
// is kept and sorts the digests it meets on disk; sweeping lists the store,
// prefix by prefix, against that sorted stream. Memory is bounded whatever the
// repository holds. It is exclusive with publishing through the store's lock,
// and nothing younger than the grace period is ever deleted, nor a revision
// that somebody may have begun to use within it (docs/design/maintenance.md).
// What is different on a replica is in replica.go.
package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/status"
	"github.com/rootstock-cf/rootstock/store"
)

const (
	// DefaultKeepFor is for how long a superseded revision stays; stock's.
	DefaultKeepFor = 72 * time.Hour
	// DefaultGrace covers clients that have not yet heard of a newer
	// revision, where leases tell what containers run.
	DefaultGrace = 24 * time.Hour
	// MinBlindGrace is the shortest grace period that stands in for leases.
	MinBlindGrace = 24 * time.Hour
)

var (
	// ErrBlind reports that nothing says what containers run.
	ErrBlind = errors.New("nothing says what containers run")
	// ErrNotCollectable reports a repository whose manifest forbids garbage
	// collection.
	ErrNotCollectable = errors.New("the manifest does not allow garbage collection")
	// ErrNotReplica reports a store without keys that is no replica.
	ErrNotReplica = errors.New("this is no replica")
	// ErrUnfit reports a store that cannot list, date or delete objects.
	ErrUnfit = errors.New("the store cannot be swept")
)

// Store is what collecting needs of a store: Collect asks for both abilities
// and returns [ErrUnfit] without.
type Store interface {
	store.Store
	store.AgedLister
	store.Deleter
}

// Progress counts what has been done so far. It may be read at any time.
type Progress struct {
	Catalogs atomic.Int64 // marked
	// Swept is how many of the store's [Prefixes] have been gone through;
	// Deleted and Bytes what of it was deleted, or would be.
	Swept, Deleted, Bytes atomic.Int64
}

// Prefixes is into how many parts a store's objects are divided by name.
const Prefixes = 256

// Options say what stays.
type Options struct {
	Store store.Store
	// Keys sign the manifest that names the new reflog. Without them the
	// store has to be a replica, whose reflog no manifest names; Trust then
	// verifies its manifest.
	Keys  *manifest.Keys
	Trust manifest.Trust
	// KeepRevisions newest revisions stay; less than 1 is 1, the head.
	KeepRevisions int
	// KeepFor keeps, besides, every revision that was the newest at any
	// time since so long ago.
	KeepFor time.Duration
	// Grace is for how long whatever is younger is left alone, and within
	// which somebody may have begun to use a revision.
	Grace time.Duration
	// Leases are what containers run; nil if nobody says, which needs a
	// Grace of at least [MinBlindGrace], longer than any container lives.
	Leases *Leases
	// Progress is counted up meanwhile; may be nil.
	Progress *Progress
	// DryRun deletes and writes nothing.
	DryRun bool
	// DeletionLog gets the name of each object before it is deleted, one per
	// line between two that begin with '#'; nil for none. With DryRun, the
	// names of what would be deleted.
	DeletionLog io.Writer
	// TempDir takes catalogs and sorted digests; "" is the system's.
	TempDir string
	// Memory bounds the digests that are held before they are spilled, in
	// bytes; 0 is a default.
	Memory int
	Log    *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Result says what was found and done, or would have been done.
type Result struct {
	Revisions        int   // kept
	RevisionsDropped int   // taken off the reflog
	Catalogs         int   // read
	Kept             int64 // objects in use
	Young            int64 // objects in no use, but younger than the grace period
	Deleted          int64 // objects
	Bytes            int64 // stored, of the deleted objects
	// Notes are for the operator: leases of what the repository does not
	// have.
	Notes []string
}

// Collect deletes what is in no use. After an error the repository is whole,
// and what was not deleted is found by the next run.
func Collect(ctx context.Context, o Options) (*Result, error) {
	st, err := o.check()
	if err != nil {
		return nil, fmt.Errorf("collect garbage: %w", err)
	}
	r, err := collect(ctx, o, st)
	if err != nil {
		return nil, fmt.Errorf("collect garbage: %w", err)
	}
	return r, nil
}

func (o *Options) check() (Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Leases == nil && o.Grace < MinBlindGrace {
		return nil, fmt.Errorf("%w: name the cells' leases, or state a grace period that is longer than any container lives, at least %s", ErrBlind, MinBlindGrace)
	}
	if o.KeepFor < 0 || o.Grace < 0 {
		return nil, fmt.Errorf("keep for %s with a grace of %s: neither can be negative", o.KeepFor, o.Grace)
	}
	st, ok := o.Store.(Store)
	if !ok {
		return nil, fmt.Errorf("%w: %T cannot list objects with their age and delete them", ErrUnfit, o.Store)
	}
	return st, nil
}

// collector is one run.
type collector struct {
	o     Options
	st    Store
	dir   string // of temporary files
	now   time.Time
	since time.Time // what was in use then or later stays
	head  *head
	marks *marks
	r     Result
}

func collect(ctx context.Context, o Options, st Store) (_ *Result, err error) {
	unlock, err := st.Lock(ctx, owner())
	if err != nil {
		return nil, err
	}
	defer unlock() //nolint:errcheck // the lock ends with the process at the latest
	c := &collector{o: o, st: st, now: o.Now()}
	if o.Keys != nil {
		c.head, err = readHead(ctx, st, o.Keys)
	} else {
		c.head, err = readReplica(ctx, st, o.Trust, c.now)
	}
	if err != nil {
		return nil, err
	}
	if c.dir, err = os.MkdirTemp(o.TempDir, "rootstock-gc-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(c.dir)
	c.marks = newMarks(c.dir, o.Memory)
	defer func() { err = errors.Join(err, c.marks.Close()) }()
	c.since = c.now.Add(-max(o.KeepFor, o.Grace))
	if o.Leases != nil && o.Leases.Taken.Before(c.since) {
		c.since = o.Leases.Taken // containers that began since are on no list
	}
	log, err := c.readReflog(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.mark(ctx, log); err != nil {
		return nil, err
	}
	if err := c.rewriteReflog(ctx, log); err != nil {
		return nil, err
	}
	if err := c.beginReplica(ctx); err != nil {
		return nil, err
	}
	if err := c.sweep(ctx); err != nil {
		return nil, err
	}
	if err := c.endReplica(ctx); err != nil {
		return nil, err
	}
	if !o.DryRun {
		if err := status.GC(ctx, st, c.now); err != nil {
			return nil, err
		}
	}
	o.Log.Info("garbage collected", "repository", c.head.manifest.Name, "kept", c.r.Kept, "deleted", c.r.Deleted, "bytes", c.r.Bytes, "dry", o.DryRun)
	return &c.r, nil
}

// owner names this process for whoever finds the store locked.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("rootstock gc, process %d on %s", os.Getpid(), host)
}

// aux lists the objects of a manifest that are no catalogs.
func aux(m manifest.Manifest) []object.Hash {
	return []object.Hash{m.Certificate, m.History, m.Metainfo}
}
