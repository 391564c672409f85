// Package cell is the daemon of a cell: it joins repositories that package
// client verifies with the mounts that package fusefs shows, keeps their newest
// revisions in view, and makes trees ready for containers over its socket.
//
// One [Cell] is several repositories with a mount each, over one cache and one
// socket. It knows who uses which tree and nothing of HTTP, FUSE or overlays,
// which are others' work.
package cell

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/droplets"
	"github.com/rootstock-cf/rootstock/cell/holder"
	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/cell/opened"
	"github.com/rootstock-cf/rootstock/cell/registry"
	"github.com/rootstock-cf/rootstock/cell/startup"
	"github.com/rootstock-cf/rootstock/cell/wish"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/object"
)

// Defaults of [Options] and [Repository].
const (
	DefaultRefresh = 5 * time.Second
	// DefaultMetrics is where run exports metrics unless told otherwise.
	DefaultMetrics = "127.0.0.1:9868"
)

// remountPause is the time between two tries to mount what could not be, and
// scrubPause the least time between two background scrubs.
const (
	remountPause = 10 * time.Second
	scrubPause   = time.Hour
)

// Options describe a cell.
type Options struct {
	Repositories []Repository // one at least, of different names
	CacheDir     string
	Quota        int64  // bytes of the cache; 0 for no bound but the disk
	Socket       string // "" for none
	Metrics      string // loopback HOST:PORT; "" for none
	// Holder is the socket of the process that keeps the mounts when this one
	// ends, killed or not; "" for none, whereupon they end with it.
	Holder string
	// NoResend answers what an earlier process left unanswered from memory,
	// as kernels before 6.9 need it.
	NoResend bool
	// Tier is how containers are shown trees: [TierAuto] by default.
	Tier string
	// IDMapping is who maps the ids of trees for containers that have a user
	// namespace: [IDsAuto] by default.
	IDMapping string
	// RunDir is where is mounted what containers stand on, but for the
	// repositories themselves; "" is mnt in CacheDir.
	RunDir string
	// ScrubRate is how many bytes per second of the cache are read in the
	// background to find damage; 0 for none.
	ScrubRate int64
	// FillRate is how many bytes per second of what trees in use lack are
	// fetched before anybody asks, beginning FillDelay (30 s) after a tree
	// came into use; 0 for none. It needs the image tier.
	FillRate  int64
	FillDelay time.Duration
	// ProfileWindow is how long after a container is made it is recorded
	// what it opens; 30 s.
	ProfileWindow time.Duration
	// Grace is how long after a whitelist ran out its repository may still be
	// started offline, and its trees be made ready for new containers.
	Grace time.Duration
	// CellName is what the cell calls itself to the fleet; "" is the host's
	// name.
	CellName string
	// CellID and Labels are what decides which rings of a rollout the cell is
	// in; "" is CellName.
	CellID string
	Labels map[string]string
	// Droplets say how write layers are read.
	Droplets Droplets
	// Garden tells which app a container belongs to; nil if nobody does.
	Garden Properties
	// Fleet is where the cell tells what it runs.
	Fleet Fleet
	Clock func() time.Time // nil is the machine's
	Log   *slog.Logger
}

// Repository is one of a cell's.
type Repository struct {
	Name       string   // fully qualified
	Servers    []string // base URLs in order of preference
	Proxies    string   // as CernVM-FS writes them; "" is DIRECT
	Keys       []*rsa.PublicKey
	Mountpoint string

	// At most one of these fixes what is shown.
	Tag      string
	Date     time.Time // the newest tagged revision not younger
	RootHash object.Hash

	// Network has time limits, retries and fallback proxies; its Servers and
	// Proxies are taken from above.
	Network fetch.Config
	// External are the base URLs of files that lie outside the repository,
	// ExternalProxies the way there; none refuses such files.
	External        []string
	ExternalProxies string
	// Blacklist is a file of withdrawn certificates and revisions, read again
	// before each verification; "" for none.
	Blacklist string
	// Owner is shown as the owner of everything, unless it is nil.
	Owner *client.Owner
	// Getenv expands $(VAR) in symbolic links; nil is the environment.
	Getenv func(string) (string, bool)

	// Refresh is the time between two looks for a new revision; 0 is
	// DefaultRefresh, or the repository's own TTL if FollowTTL. MaxTTL, if
	// not zero, is an upper limit for the latter.
	Refresh   time.Duration
	FollowTTL bool
	MaxTTL    time.Duration
	// Still stays with the revision that was found first.
	Still bool
}

// Cell is mounted repositories. Run serves them.
type Cell struct {
	o     Options
	cache *cache.Cache
	fixed fixedPins
	apps  apps
	// opened notes which contents the kernel asked for.
	opened *opened.Notes
	// profiles records what containers open when they start.
	profiles *startup.Recorder
	// droplets are what the cell knows of droplets, looked whose they are.
	droplets *droplets.Store
	looked   looked

	holder  *holder.Client // nil without
	since   time.Time
	binary  string // this program's file at the start
	restart atomic.Bool
	stop    atomic.Pointer[context.CancelFunc] // of Run

	images  *image.Tier // nil: the tree tier
	tierWhy string
	ids     idMapping

	mu     sync.RWMutex
	mounts []*mounted       // in the order of Options
	failed map[string]error // repositories that are not mounted, and why
	ended  []*mounted       // whose mounts ended, and whose pins are still held
	// released are handles given up while a repository was not mounted, whose
	// record may yet name them.
	released map[string]struct{}

	remount, rescrub time.Duration // pauses

	draining atomic.Bool
	lowers   atomic.Int64 // being made ready
	scrubbed atomic.Int64 // UNIX seconds: end of the last whole background scrub
}

// Mount verifies the repositories and mounts them. A repository that cannot be
// had is tried again while Run runs, unless that is true of all. What Mount
// opened is closed by Run or, if it returns an error, by itself.
func Mount(ctx context.Context, o Options) (_ *Cell, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Metrics != "" {
		if err := CheckLoopback(o.Metrics); err != nil {
			return nil, fmt.Errorf("metrics at %s: %w", o.Metrics, err)
		}
	}
	if err := CheckIDMapping(o.IDMapping); err != nil {
		return nil, err
	}
	if o.CellName == "" {
		if o.CellName, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("name of the cell: %w; configure one", err)
		}
	}
	o.CellID = cmp.Or(o.CellID, o.CellName)
	o.Droplets.Rate = cmp.Or(o.Droplets.Rate, DefaultDropletRate)
	o.Droplets.After = cmp.Or(o.Droplets.After, DefaultDropletAfter)
	c := &Cell{o: o, since: time.Now(), apps: apps{garden: o.Garden}, remount: remountPause, rescrub: scrubPause, failed: map[string]error{}, released: map[string]struct{}{}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.binary, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("cell: %w", err)
	}
	if o.Holder != "" {
		if c.holder, err = holder.Connect(ctx, o.Holder, o.Log); err != nil {
			return nil, err
		}
	}
	// What a holder kept says that the machine went on.
	continued := c.holder != nil && len(c.holder.Mounts()) > 0
	if c.cache, err = cache.Open(o.CacheDir, cache.Options{Quota: o.Quota, Continued: continued, Log: o.Log}); err != nil {
		return nil, err
	}
	if c.opened, err = openNotes(c.cache, o.Log); err != nil {
		return nil, err
	}
	if c.profiles, err = c.openProfiles(); err != nil {
		return nil, err
	}
	if c.droplets, err = openDroplets(c.cache); err != nil {
		return nil, err
	}
	if err = c.chooseTier(ctx); err != nil {
		return nil, err
	}
	var failures []error
	for _, r := range o.Repositories {
		m, err := c.mount(ctx, r)
		if err != nil {
			failures = append(failures, err)
			c.failed[r.Name] = err
			continue
		}
		c.mounts = append(c.mounts, m)
	}
	if len(c.mounts) == 0 || ctx.Err() != nil {
		return nil, errors.Join(append(failures, ctx.Err())...)
	}
	for name, err := range c.failed {
		o.Log.Error("repository is not mounted, trying again", "repository", name, "error", err)
	}
	if len(c.failed) == 0 {
		c.sweepTrees(ctx)
	}
	if err := c.loadFixedPins(); err != nil {
		return nil, err
	}
	c.dropUnused(ctx)
	return c, nil
}

// mounted returns the repositories that are mounted now.
func (c *Cell) mounted() []*mounted {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return append([]*mounted(nil), c.mounts...)
}

// Run serves mounts and socket until ctx is done or, with a single repository,
// somebody unmounts it, and then closes everything. Ready is called once all
// answer.
func (c *Cell) Run(ctx context.Context, ready func()) error {
	defer c.close()
	// Mounts must answer before anything else looks at them, and go last.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.stop.Store(&cancel)
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range c.mounted() {
		g.Go(func() error { return c.serve(ctx, cancel, m) })
	}
	if c.images != nil {
		g.Go(func() error { return c.images.Serve(ctx) })
	}
	fail := func(err error) error {
		cancel()
		return errors.Join(err, g.Wait())
	}
	if c.o.Socket != "" {
		l, err := control.Listen(c.o.Socket)
		if err != nil {
			return fail(err)
		}
		server := &control.Server{Lowers: c, Reports: c, Asks: registry.New(), Calls: c.calls(), Log: c.o.Log}
		wishes := &wish.Sender{Log: c.o.Log}
		for _, r := range c.o.Repositories { // the cell has one certificate
			if r.Network.TLS != nil {
				wishes.Certificates = r.Network.TLS.Certificates
			}
		}
		defer wishes.Wait()
		server.Calls[control.CallWish] = control.Handle(func(ctx context.Context, r control.WishRequest) (struct{}, error) {
			return struct{}{}, wishes.Wish(ctx, r)
		})
		g.Go(func() error { return server.Serve(ctx, l) })
	}
	if c.o.Metrics != "" {
		serve, err := c.listenMetrics(ctx)
		if err != nil {
			return fail(err)
		}
		g.Go(serve)
	}
	if c.o.Fleet.Listen != "" {
		serve, err := c.listenFleet(ctx)
		if err != nil {
			return fail(err)
		}
		g.Go(serve)
	}
	if c.o.ScrubRate > 0 {
		g.Go(func() error { c.scrubLoop(ctx); return nil })
	}
	if c.o.Droplets.Containers != "" {
		g.Go(func() error { c.readDroplets(ctx); return nil })
	}
	g.Go(func() error { c.remountLoop(ctx, cancel, g); return nil })
	ready()
	err := g.Wait()
	if err == nil && c.restart.Load() {
		return ErrRestart
	}
	return err
}

// serve answers m's mount and follows its repository. The mount of a single
// repository ending ends the cell; of several, it is made again.
func (c *Cell) serve(ctx context.Context, cancel context.CancelFunc, m *mounted) error {
	inner, stop := context.WithCancel(ctx)
	followed := make(chan error, 1)
	go func() {
		defer stop() // what is withdrawn is unmounted
		followed <- m.follow(inner)
	}()
	err := m.conn.Serve(inner)
	stop()
	err = errors.Join(err, <-followed)
	if ctx.Err() == nil {
		c.drop(m)
	}
	if len(c.o.Repositories) == 1 || ctx.Err() != nil {
		m.closeShifted()
		if len(c.o.Repositories) == 1 {
			cancel()
		}
		return err
	}
	if err == nil {
		err = errors.New("somebody unmounted it")
	}
	c.o.Log.Error("a mount ended and is made again", "repository", m.o.Name, "error", err)
	c.mu.Lock()
	c.mounts = slices.DeleteFunc(slices.Clone(c.mounts), func(x *mounted) bool { return x == m })
	c.ended = append(c.ended, m)
	c.failed[m.o.Name] = err
	c.mu.Unlock()
	m.closeShifted() // those who stand on it need what retire closes
	m.retire()
	return nil
}

// remountLoop mounts what could not be, or no longer is.
func (c *Cell) remountLoop(ctx context.Context, cancel context.CancelFunc, g *errgroup.Group) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.remount):
		}
		for _, r := range c.o.Repositories {
			c.mu.RLock()
			_, missing := c.failed[r.Name]
			c.mu.RUnlock()
			if !missing {
				continue
			}
			m, err := c.mount(ctx, r)
			if err != nil {
				if ctx.Err() != nil {
					return
				}
				c.mu.Lock()
				c.failed[r.Name] = err
				c.mu.Unlock()
				continue
			}
			c.o.Log.Info("repository is mounted", "repository", r.Name, "revision", m.revision())
			c.remounted(m)
			g.Go(func() error { return c.serve(ctx, cancel, m) })
		}
	}
}

// remounted puts m in the place of what was mounted before.
func (c *Cell) remounted(m *mounted) {
	c.mu.Lock()
	delete(c.failed, m.o.Name)
	c.mounts = append(c.mounts, m)
	late := slices.Collect(maps.Keys(c.released))
	var before []*mounted
	c.ended = slices.DeleteFunc(c.ended, func(x *mounted) bool {
		same := x.o.Name == m.o.Name
		if same {
			before = append(before, x)
		}
		return same
	})
	c.mu.Unlock()
	// Only now: the trees have been held by m, too, all the while.
	for _, x := range before {
		x.pins.letGo()
	}
	m.releaseAll(late)
}

func (c *Cell) close() {
	for _, m := range c.mounted() {
		m.unmount()
	}
	if c.images != nil {
		c.images.Close()
	}
	// Not let go of: containers stand on what is pinned, and the next daemon
	// finds it.
	for _, m := range append(c.mounted(), c.ended...) {
		m.repo.Close()
	}
	if c.profiles != nil {
		c.profiles.Close()
	}
	if c.opened != nil {
		if err := c.opened.Close(); err != nil {
			c.o.Log.Warn("notes of opened contents not closed cleanly", "error", err)
		}
	}
	switch {
	case c.cache == nil:
	case c.restart.Load():
		c.cache.Leave()
	default:
		if err := c.cache.Close(); err != nil {
			c.o.Log.Warn("cache not closed cleanly; what is young will be verified at the next start", "error", err)
		}
	}
	if c.holder != nil { // last: the next process may begin
		c.holder.Close()
	}
}

// Shown is a repository in view.
type Shown struct {
	Name, Mountpoint string
	Revision         uint64
}

// Shown lists what is mounted now.
func (c *Cell) Shown() (list []Shown) {
	for _, m := range c.mounted() {
		list = append(list, Shown{m.o.Name, m.conn.Mountpoint(), m.revision()})
	}
	return list
}
