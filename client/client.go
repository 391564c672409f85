// Package client is a repository, read only and without a kernel: its verified
// head, its catalogs compiled into indexes, its files fetched on demand into a
// cache.
//
// What flows through it: [fetch] brings bytes, package manifest says which of
// them are the repository's newest revision, package catalog turns the tree
// into indexes that [cache] keeps beside the content, and a [Repository]
// answers in terms of package view. Package fusefs/tree shows that through
// FUSE; [Repository.FS] shows it as an io/fs.FS.
//
// A node is the number of a slot and a row. A slot is a catalog's hash and the
// place it is attached at, and keeps its number for the life of the process:
// a node always means the same thing, and what a new revision left alone keeps
// its nodes.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

var (
	// ErrNoTag reports a tag, or a date before the first tag, that the
	// repository's history does not have.
	ErrNoTag = errors.New("no such tag")
	// ErrExternal reports a file whose content lies outside the repository,
	// where no address for such files is configured.
	ErrExternal = errors.New("external file")
	// ErrInconsistent reports verified objects that contradict each other.
	ErrInconsistent = errors.New("inconsistent repository")
	// ErrRestricted reports a repository for members only (CVMFS-FORMAT
	// 2.10): nobody here asks a user for credentials, so nobody is let in.
	ErrRestricted = errors.New("restricted repository")
)

// Options describe a repository. Name, Fetcher and Cache are needed, and Trust
// unless RootHash is set.
type Options struct {
	Name    string // fully qualified
	Fetcher fetch.Fetcher
	Trust   manifest.Trust
	Cache   *cache.Cache // shared with other repositories; not closed by them

	// Blacklist withdraws certificates and revisions. It is asked before each
	// verification, so that it may change while the repository is open, and
	// takes the place of Trust.Blacklist; nil withdraws nothing more. An
	// error of it fails the verification.
	Blacklist func() (manifest.Blacklist, error)

	// At most one of these fixes what is shown; it then never changes.
	Tag      string
	Date     time.Time   // the newest revision not younger
	RootHash object.Hash // a root catalog; no signature is asked for

	// Still stays with the revision that Open found.
	Still bool

	// Nodes is a file that keeps what nodes mean, for the next process that
	// shows this repository to the same kernel; "" for none. It begins anew
	// unless Resume is set.
	Nodes string
	// Resume begins with what Nodes says the kernel was shown last. It asks
	// no server, and holds no whitelist that ran out meanwhile and no
	// blacklist against it: whoever reads on it must go on. Trusted says what
	// there is against it, and Refresh renews it.
	Resume bool

	// External has the content of external files, by their path in the
	// repository; nil refuses them.
	External fetch.Fetcher
	// Getenv expands $(VAR) in symbolic links; nil knows none.
	Getenv func(string) (string, bool)
	// Owner is shown as the owner of everything (CVMFS_CLAIM_OWNERSHIP); nil
	// shows the stored owners.
	Owner *Owner
	// WhitelistAge is how old a whitelist may get before it is fetched
	// again though it is still valid; 5 min.
	WhitelistAge time.Duration
	// MaxCatalogs bounds the indexes mapped at a time; 512.
	MaxCatalogs int
	// MaxCatalog bounds a catalog's database, in bytes, whatever the
	// repository says; 1 GiB.
	MaxCatalog int64
	// Ahead bounds the bytes that are fetched before they are asked for while
	// a reader goes through a directory or a large file; 4 MiB, negative for
	// none.
	Ahead int64
	// Grace is for how long after its whitelist ran out the last verified
	// revision may still be shown at a start without usable servers, and
	// passes for trusted.
	Grace time.Duration
	Clock func() time.Time
	Log   *slog.Logger
}

// Owner is a user and a group.
type Owner struct{ UID, GID uint32 }

func (o *Options) defaults() error {
	if err := manifest.CheckName(o.Name); err != nil {
		return err
	}
	fixed := 0
	for _, set := range []bool{o.Tag != "", !o.Date.IsZero(), !o.RootHash.IsZero()} {
		if set {
			fixed++
		}
	}
	switch {
	case o.Fetcher == nil || o.Cache == nil:
		return fmt.Errorf("repository %s: neither fetcher nor cache may be missing", o.Name)
	case fixed > 1:
		return fmt.Errorf("repository %s: give one of tag, date and root hash", o.Name)
	}
	if o.Getenv == nil {
		o.Getenv = func(string) (string, bool) { return "", false }
	}
	if o.WhitelistAge <= 0 {
		o.WhitelistAge = 5 * time.Minute
	}
	if o.MaxCatalogs <= 0 {
		o.MaxCatalogs = 512
	}
	if o.Ahead == 0 {
		o.Ahead = 4 << 20
	}
	if o.MaxCatalog <= 0 {
		o.MaxCatalog = 1 << 30
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Repository is open for reading. All methods may be called concurrently;
// those that take a context wait for the network at most as long as it lasts,
// and with one that is done already answer only from memory. No lock is held
// over a fetch.
type Repository struct {
	o        Options
	state    state
	catalogs catalogs
	slots    slots
	nodes    *nodes // nil without
	pins     pins
	ahead    ahead
	started  time.Time
	journal  *journal

	head      atomic.Pointer[head]
	refresh   sync.Mutex // one refresh at a time
	saved     signed     // guarded by refresh: what was verified last
	metainfo  atomic.Pointer[metainfo]
	unstored  atomic.Bool
	ioErrors  atomic.Int64
	opens     atomic.Int64
	lastError atomic.Int64 // UNIX seconds
	verified  atomic.Int64 // UNIX seconds: the servers' manifest, last
	rejected  atomic.Int64 // manifests
}

// head is one state of the repository as a whole.
type head struct {
	root     *slot
	manifest manifest.Manifest // zero if RootHash fixed the root
	end      time.Time         // of the whitelist
	revision uint64            // of the root catalog that is shown
	offline  bool              // the server could not be asked, or gave nothing usable
	checked  time.Time         // when the servers last vouched for this
	// withdrawn says which entry of the blacklist is against what is shown.
	withdrawn error
}

// Open verifies the repository's head and loads its root catalog. If the
// servers do not give a valid one that is at least as new as what was seen
// before, the last verified one is used while its whitelist is valid.
func Open(ctx context.Context, o Options) (*Repository, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	dir := filepath.Join(o.Cache.Dir(), "state", o.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("repository %s: state: %w", o.Name, err)
	}
	r := &Repository{o: o, state: state{dir: dir}, started: o.Clock(), journal: newJournal(o.Log.Handler())}
	r.o.Log = slog.New(r.journal)
	r.catalogs.init(r)
	r.slots.init()
	r.ahead.init(r)
	if err := r.openNodes(); err != nil {
		r.Close()
		return nil, err
	}
	if o.Resume {
		if err := r.resume(ctx); err != nil {
			r.Close()
			return nil, err
		}
		return r, nil
	}
	if !o.RootHash.IsZero() {
		h, err := r.show(ctx, o.RootHash, 0, head{})
		if err != nil {
			return nil, err
		}
		r.head.Store(h)
		return r, nil
	}
	h, err := r.openHead(ctx)
	if err != nil {
		r.Close()
		return nil, err
	}
	r.head.Store(h)
	return r, nil
}

// Close unmaps the indexes. Nothing may be in use any more, contents that are
// open excepted.
func (r *Repository) Close() {
	r.ahead.close()
	r.catalogs.close()
	r.nodes.close()
}

// StateDir is the repository's directory in the cache, for what whoever shows it
// has to remember over a restart.
func (r *Repository) StateDir() string { return r.state.dir }

// Root is the root directory of what is shown now.
func (r *Repository) Root() view.Node { return r.head.Load().root.node(0) }

// fixed reports whether what is shown can never change.
func (r *Repository) fixed() bool {
	return r.o.Still || r.o.Tag != "" || !r.o.Date.IsZero() || !r.o.RootHash.IsZero()
}

// Status is what an operator asks about a repository.
type Status struct {
	Name         string
	Revision     uint64
	RootHash     object.Hash
	Published    time.Time // zero if unknown
	TTL          time.Duration
	WhitelistEnd time.Time // zero if no signature was asked for
	Offline      bool
	Fixed        bool
	Withdrawn    bool      // the blacklist names what is shown
	Checked      time.Time // when the servers last vouched for it; zero if never
	Catalogs     int       // mapped now
	Opens        int64
	IOErrors     int64
	Ahead        int64     // objects fetched before they were asked for
	Verified     time.Time // when a server's manifest last verified; zero if never
	Rejected     int64     // manifests that did not
}

// Status reports the present state.
func (r *Repository) Status() Status {
	h := r.head.Load()
	s := Status{
		Name: r.o.Name, Revision: h.revision, RootHash: h.root.cat.hash,
		TTL: time.Duration(h.manifest.TTL) * time.Second, WhitelistEnd: h.end,
		Offline: h.offline, Fixed: r.fixed(), Withdrawn: h.withdrawn != nil, Checked: h.checked, Catalogs: r.catalogs.count(),
		Opens: r.opens.Load(), IOErrors: r.ioErrors.Load(),
	}
	s.Ahead = r.ahead.fetched.Load()
	s.Rejected = r.rejected.Load()
	if at := r.verified.Load(); at > 0 {
		s.Verified = time.Unix(at, 0)
	}
	if h.manifest.Published > 0 {
		s.Published = time.Unix(h.manifest.Published, 0)
	}
	return s
}
