// Package replica copies a repository from a server into a store: the pull of
// a stratum 1 (CVMFS-FORMAT 8.1).
//
// Everything is copied verbatim and verified by its hash on the way. A catalog
// is stored only after all it references, so the presence of a catalog means
// that its tree is complete: a later run does not descend into it, and one that
// was interrupted goes on where it was. The whitelist and then the manifest come
// last; until then the replica serves the revision it had.
//
// What flows through it: package fetch brings bytes, catalog says what they
// refer to, package store takes them. The replica keeps a reflog of its own, of
// what it has seen.
package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

var (
	// ErrNotReplicable reports a server that does not offer the repository
	// for replication, or has only a part of it.
	ErrNotReplicable = errors.New("the server does not let the repository be replicated")
	// ErrOther reports a store that holds another repository.
	ErrOther = errors.New("the store holds another repository")
)

// Progress counts what has been copied so far. It may be read at any time.
type Progress struct {
	Objects, Bytes atomic.Int64
}

// Options say what to copy, from where, and to where. From and To are needed.
type Options struct {
	From fetch.Fetcher
	To   store.Store
	// Name is the repository's; "" is what its manifest says.
	Name string
	// Trust holds the master public keys. Without any, signatures are
	// checked against the certificate that the server gives, and that against
	// the whitelist that it gives: this tells damage from intact, but does not
	// prove whose repository it is. Cells do that in any case.
	Trust manifest.Trust
	// Only are the trees to copy; none means all. References without version
	// mean all versions.
	Only    []reference.Reference
	Workers int    // objects fetched at a time; 16
	TempDir string // for catalogs under work; "" is the system's
	// Progress is counted up meanwhile; may be nil.
	Progress *Progress
	Log      *slog.Logger
	Now      func() time.Time // the clock; nil is time.Now
}

// Result says what a run came to.
type Result struct {
	Name      string
	Revision  uint64
	Unchanged bool  // the replica was up to date
	Objects   int64 // copied, catalogs included
	Bytes     int64 // stored bytes of these
	Catalogs  int64 // copied
	Skipped   []string
}

// Replicator copies one repository. Its methods are for one goroutine.
type Replicator struct {
	o    Options
	seen signed // the head fetched last, for conditional requests
}

// New checks the options. Nothing is sent yet.
func New(o Options) (*Replicator, error) {
	if o.Workers <= 0 {
		o.Workers = 16
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, ref := range o.Only {
		if ref.Kind == "" || ref.Channel != "" {
			return nil, fmt.Errorf("%s: only trees can be chosen, as KIND/NAME or KIND/NAME@VERSION", ref)
		}
	}
	return &Replicator{o: o}, nil
}

// Snapshot brings the replica to the server's newest revision. When it returns
// an error, the replica serves what it served before; what was copied stays
// and is not copied again.
func (r *Replicator) Snapshot(ctx context.Context) (*Result, error) {
	if err := r.mayReplicate(ctx); err != nil {
		return nil, err
	}
	h, err := r.fetchHead(ctx)
	if err != nil {
		return nil, err
	}
	res, err := r.snapshot(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("replicate %s: %w", h.manifest.Name, err)
	}
	return res, nil
}

func (r *Replicator) snapshot(ctx context.Context, h *head) (*Result, error) {
	unlock, err := r.o.To.Lock(ctx, owner())
	if err != nil {
		return nil, err
	}
	defer unlock() //nolint:errcheck // the lock ends by itself at the latest
	old, err := r.stored(ctx, h)
	if err != nil {
		return nil, err
	}
	if old.isCurrent(r.o.Only) {
		return &Result{Name: h.manifest.Name, Revision: h.manifest.Revision, Unchanged: true}, nil
	}
	if err := r.o.To.Put(ctx, snapshottingFile, stamp(r.o.Now())); err != nil {
		return nil, err
	}
	defer r.ended(ctx)
	dir, err := os.MkdirTemp(r.o.TempDir, "rootstock-replicate-")
	if err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	p := newPull(r.o, dir, h.manifest.GarbageCollectable)
	p.trusted = old.complete(r.o.Only) && !old.collecting
	roots, err := p.everything(ctx, h, old)
	if err != nil {
		return nil, err
	}
	if err := r.finish(ctx, h, old, roots, dir); err != nil {
		return nil, err
	}
	r.o.Log.Info("replicated", "repository", h.manifest.Name, "revision", h.manifest.Revision,
		"objects", p.objects.Load(), "bytes", p.bytes.Load())
	return &Result{
		Name: h.manifest.Name, Revision: h.manifest.Revision, Skipped: p.skipped,
		Objects: p.objects.Load(), Bytes: p.bytes.Load(), Catalogs: p.catalogs.Load(),
	}, nil
}

// ended takes back the note that a snapshot is under way, also if the run was
// cancelled.
func (r *Replicator) ended(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	d, ok := r.o.To.(store.Deleter)
	if !ok {
		return
	}
	if err := d.Delete(ctx, snapshottingFile); err != nil {
		r.o.Log.Warn("the note of a snapshot under way stays", "error", err)
	}
}

// owner names this process for whoever finds the store locked.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("rootstock replicate, process %d on %s", os.Getpid(), host)
}
