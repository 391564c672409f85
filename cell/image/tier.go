// Package image is the image tier of a cell: what containers stand on where the
// kernel can show it without us.
//
// Of a tree that a container asks for, the listing is fetched and proved to be
// the tree's, an EROFS image is written of it, and the kernel mounts that:
//
//	lower  <dir>/trees/<tree id>.<version>   names, attributes, hard links, xattrs
//	data   the cache's directory             contents that are here already
//	data   <dir>/objects                     all others: fusefs/objects fetches them
//
// One image and one mount serve all containers on a tree, whatever repository
// they asked; one objects mount serves all trees. What is cached is read without
// this process, and outlives it.
//
// A tree's mount lives as long as somebody holds the tree. It also outlives this
// process, in which case the next one adopts it: a name below trees/ says
// exactly what is mounted there, and nobody else may write to the directory.
package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rootstock-cf/rootstock/cell/holder"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/usage"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// ErrUnsupported reports a kernel that lacks something the image tier needs.
var ErrUnsupported = errors.New("this kernel cannot show images")

// overlayOptions make an overlay look for contents in its data layers. They are
// not the kernel's defaults.
var overlayOptions = []string{"metacopy=on", "redirect_dir=on"}

// Options describe a tier.
type Options struct {
	Cache *cache.Cache
	// Dir is the tier's own directory; "" is mnt in the cache's. Images are
	// mounted below it, so it must be where the mount namespaces of those
	// who start containers see mounts appear.
	Dir string
	// Holder keeps the objects mount when this process ends; nil without.
	Holder *holder.Client
	// NoResend is fusefs's.
	NoResend bool
	// Retry is the time between two tries to get what held trees lack; 15 s.
	Retry time.Duration
	// Opened is told of each content that the kernel asks for; nil for
	// nobody.
	Opened func(object.ContentID)
	// FillRate is how many bytes per second of what trees in use lack are
	// fetched before anybody asks for them; 0 for none. It begins FillDelay
	// after a tree came into use, looks again each FillPause, and lets those
	// who wait for something go first for FillPatience at most.
	FillRate                           int64
	FillDelay, FillPause, FillPatience time.Duration
	Log                                *slog.Logger
}

// Layers are what an overlay on a tree is made of.
type Layers struct {
	Lower, Data, Options []string
}

// Tier shows trees. All methods may be called concurrently.
type Tier struct {
	o        Options
	contents *client.Contents
	store    *store // the objects mount
	bound    bound
	waiting  atomic.Int64 // who wait for a tree or a content now

	// What works in the background ends with Close.
	ctx    context.Context //nolint:containedctx // of what outlives a call
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex
	trees map[imagemeta.TreeID]*tree
}

// tree is a tree that somebody holds.
type tree struct {
	id    imagemeta.TreeID
	dir   *client.Directory // nil for one that was published as a tree
	since time.Time
	users map[*client.Repository]int // guarded by Tier.mu

	// work is held by whoever changes what follows.
	work    chan struct{}
	tables  map[*client.Repository]bool // those in use in Tier.contents
	mounted bool
	startup *startup // nil if the cell had shown the tree before
}

// Defaults of [Options].
const (
	DefaultFillDelay    = 30 * time.Second
	defaultFillPause    = 5 * time.Second
	defaultFillPatience = 2 * time.Second
)

// Open looks whether the kernel can do it, by trying, and makes the objects
// mount. It returns an error that wraps [ErrUnsupported] and says what is
// missing if the kernel cannot. Mounts that an earlier process left are kept
// until Sweep. The caller calls Serve, and Close in the end.
func Open(ctx context.Context, o Options) (*Tier, error) {
	if o.Dir == "" {
		o.Dir = filepath.Join(o.Cache.Dir(), "mnt")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Retry <= 0 {
		o.Retry = 15 * time.Second
	}
	o.FillDelay = cmp.Or(o.FillDelay, DefaultFillDelay)
	o.FillPause = cmp.Or(o.FillPause, defaultFillPause)
	o.FillPatience = cmp.Or(o.FillPatience, defaultFillPatience)
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("image tier: %w", err)
	}
	o.Dir = dir
	if err := os.MkdirAll(filepath.Join(o.Dir, "trees"), 0o700); err != nil {
		return nil, fmt.Errorf("image tier: %w", err)
	}
	if !held(o.Holder) { // otherwise it was probed by who made what is held
		if err := Probe(ctx, o.Dir); err != nil {
			return nil, err
		}
	}
	t := &Tier{o: o, contents: client.NewContents(o.Cache), trees: map[imagemeta.TreeID]*tree{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if t.store, err = openStore(ctx, o, noted{t.contents, t}); err != nil {
		t.cancel()
		t.contents.Close()
		return nil, fmt.Errorf("image tier: %w", err)
	}
	return t, nil
}

// Serve answers the objects mount until ctx is done. Containers that are left
// then keep their metadata and every content that is cached.
func (t *Tier) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var retries sync.WaitGroup
	defer retries.Wait()
	retries.Go(func() { t.retry(ctx) })
	if t.o.FillRate > 0 {
		retries.Go(func() { t.fill(ctx) })
	}
	defer cancel()
	return t.store.serve(ctx)
}

// Close lets go of everything but the mounts of trees that are held. The cache
// and the repositories are closed after it.
func (t *Tier) Close() {
	t.mu.Lock()
	t.cancel()
	t.mu.Unlock()
	t.work.Wait()
	if err := t.store.close(); err != nil {
		t.o.Log.Warn("objects mount not closed cleanly", "error", err)
	}
	t.contents.Close()
}

// Acquire makes a tree of r ready and holds it until Release.
func (t *Tier) Acquire(ctx context.Context, r *client.Repository, id imagemeta.TreeID) (Layers, error) {
	return t.acquire(ctx, r, id, nil)
}

// AcquireDirectory is Acquire for a directory of r that was compiled; it is held
// by its ID.
func (t *Tier) AcquireDirectory(ctx context.Context, r *client.Repository, c *client.Compiled) (Layers, error) {
	return t.acquire(ctx, r, c.ID, c)
}

func (t *Tier) acquire(ctx context.Context, r *client.Repository, id imagemeta.TreeID, c *client.Compiled) (Layers, error) {
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	cached := t.o.Cache.Dir()
	var dir *client.Directory
	if c != nil {
		dir, cached = &c.Directory, filepath.Join(cached, cache.StoredDir)
	}
	x := t.join(r, id, dir)
	if err := t.ready(ctx, r, x, c); err != nil {
		t.Release(r, id)
		return Layers{}, err
	}
	t.lead(ctx, x)
	return Layers{
		Lower:   []string{t.mountpoint(id)},
		Data:    []string{cached, t.store.dir},
		Options: overlayOptions,
	}, nil
}

// Hold holds a tree until Release for a container that stands on it already; dir
// is nil for one that was published as a tree. It does what can be done without
// a network; Serve does the rest.
func (t *Tier) Hold(ctx context.Context, r *client.Repository, id imagemeta.TreeID, dir *client.Directory) {
	x := t.join(r, id, dir)
	x.lock()
	defer x.unlock()
	x.adopt(t)
	if !x.tables[r] {
		x.tables[r] = t.contents.Reuse(ctx, r, id, dir != nil)
	}
}

// join counts a user in.
func (t *Tier) join(r *client.Repository, id imagemeta.TreeID, dir *client.Directory) *tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.trees[id]
	if x == nil {
		x = &tree{id: id, dir: dir, since: time.Now(), users: map[*client.Repository]int{}, work: make(chan struct{}, 1), tables: map[*client.Repository]bool{}}
		t.trees[id] = x
	}
	x.users[r]++
	return x
}

func (x *tree) lock()   { x.work <- struct{}{} }
func (x *tree) unlock() { <-x.work }

// ready makes x's contents findable and its image mounted; c is what x is made
// of, nil for a published tree.
func (t *Tier) ready(ctx context.Context, r *client.Repository, x *tree, c *client.Compiled) error {
	select {
	case x.work <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer x.unlock()
	if err := t.store.ensure(ctx); err != nil {
		return err
	}
	// Table and image come at the same time.
	cold := !t.o.Cache.Has(imageKey(x.id))
	table := sync.OnceValue(func() error {
		err := t.use(ctx, r, x, c)
		if err == nil && cold && c == nil {
			t.begin(r, x)
		}
		return err
	})
	if x.adopt(t); x.mounted {
		return table()
	}
	go table() //nolint:errcheck // the one below says it again
	listing := func(ctx context.Context) ([]imagemeta.Entry, error) { return r.Listing(ctx, x.id) }
	if c != nil {
		listing = c.Listing
	}
	err := t.mount(ctx, r, x, listing, table)
	if terr := table(); terr != nil {
		return terr
	}
	return err
}

// use is called with x's work held.
func (t *Tier) use(ctx context.Context, r *client.Repository, x *tree, c *client.Compiled) error {
	if x.tables[r] {
		return nil
	}
	var err error
	if c != nil {
		err = t.contents.UseCompiled(ctx, c)
	} else {
		err = t.contents.Use(ctx, r, x.id)
	}
	if err != nil {
		return err
	}
	x.tables[r] = true
	return nil
}

// Release takes back one Acquire or Hold. What nobody holds any more is
// unmounted; overlays that still stand on it are not disturbed.
func (t *Tier) Release(r *client.Repository, id imagemeta.TreeID) {
	t.mu.Lock()
	x := t.trees[id]
	if x == nil || x.users[r] == 0 {
		t.mu.Unlock()
		return
	}
	if x.users[r]--; x.users[r] > 0 {
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()

	x.lock()
	defer x.unlock()
	// Somebody may have come meanwhile, or come now and wait for our work.
	t.mu.Lock()
	unused, gone := x.users[r] == 0, x.unused()
	t.mu.Unlock()
	if unused && x.tables[r] {
		t.contents.Drop(r, id)
		delete(x.tables, r)
		t.background(func(context.Context) {
			t.bound.prune(func(id object.ContentID) bool { return len(t.contents.Trees(id)) > 0 })
		})
	}
	if gone && x.mounted {
		t.unmount(x)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.unused() && t.trees[id] == x {
		delete(t.trees, id)
	}
}

// unused is called with Tier.mu held.
func (x *tree) unused() bool {
	for _, n := range x.users {
		if n > 0 {
			return false
		}
	}
	return true
}

// retry gets the tables that Hold could not.
func (t *Tier) retry(ctx context.Context) {
	said := map[imagemeta.TreeID]bool{}
	for {
		for r, trees := range t.lacking() {
			for _, x := range trees {
				x.lock()
				err := t.useAgain(ctx, r, x)
				x.unlock()
				if err != nil && ctx.Err() == nil && !said[x.id] {
					said[x.id] = true
					t.o.Log.Warn("containers on a tree can read only what is cached, until its table can be had",
						"tree", x.id.String(), "error", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(t.o.Retry):
		}
	}
}

// useAgain is use for a tree that was held. x's work is held.
func (t *Tier) useAgain(ctx context.Context, r *client.Repository, x *tree) error {
	if x.dir == nil || x.tables[r] {
		return t.use(ctx, r, x, nil)
	}
	return t.use(ctx, r, x, r.Compiled(*x.dir, x.id))
}

func (t *Tier) lacking() map[*client.Repository][]*tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[*client.Repository][]*tree{}
	for _, x := range t.trees {
		for r, n := range x.users {
			if n > 0 {
				all[r] = append(all[r], x)
			}
		}
	}
	return all
}

// Stats are what a tier reports of itself.
type Stats struct {
	Trees    int    // held by somebody
	Requests uint64 // of the kernel to the objects mount
	Failures uint64 // of them, answered EIO
}

// Stats reports the present state.
func (t *Tier) Stats() Stats {
	t.mu.Lock()
	n := len(t.trees)
	t.mu.Unlock()
	requests, failures := t.store.stats()
	return Stats{Trees: n, Requests: requests, Failures: failures}
}

// Usage says what the cache's bytes are for, by the trees that are held.
func (t *Tier) Usage(ctx context.Context) (usage.Totals, map[imagemeta.TreeID]usage.Tree, error) {
	return t.contents.Usage(ctx)
}

func (t *Tier) mountpoint(id imagemeta.TreeID) string {
	return filepath.Join(t.o.Dir, "trees", treeName(id))
}
