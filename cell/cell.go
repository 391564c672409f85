// Package cell is the daemon of a cell: it joins repositories that package
// client verifies with the mounts that package fusefs shows, keeps their newest
// revisions in view, and makes trees ready for containers over its socket.
//
// One [Cell] is several repositories with a mount each, over one cache and one
// socket. It knows who uses which tree and nothing of HTTP, FUSE or overlays,
// which are others' work.
package cell

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

// Defaults of [Options] and [Repository].
const (
	DefaultRefresh = 5 * time.Second
	// DefaultMetrics is where run exports metrics unless told otherwise.
	DefaultMetrics = "127.0.0.1:9868"
)

// remountPause is the time between two tries to mount what could not be.
const remountPause = 10 * time.Second

// Options describe a cell.
type Options struct {
	Repositories []Repository // one at least, of different names
	CacheDir     string
	Quota        int64  // bytes of the cache; 0 for no bound but the disk
	Socket       string // "" for none
	Metrics      string // loopback HOST:PORT; "" for none
	// ScrubRate is how many bytes per second of the cache are read in the
	// background to find damage; 0 for none.
	ScrubRate int64
	// Grace is how long after a whitelist ran out its repository may still be
	// started offline, and its trees be made ready for new containers.
	Grace time.Duration
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
	RootHash object.Hash

	// Refresh is the time between two looks for a new revision; 0 is
	// DefaultRefresh.
	Refresh time.Duration
	// RequestTimeout bounds the wait for a connection and for the first byte;
	// 0 for the fetcher's defaults.
	RequestTimeout time.Duration
}

// Cell is mounted repositories. Run serves them.
type Cell struct {
	o     Options
	cache *cache.Cache
	fixed fixedPins

	mu     sync.RWMutex
	mounts []*mounted       // in the order of Options
	failed map[string]error // repositories that are not mounted, and why
	// released are handles given up while a repository was not mounted, whose
	// record may yet name them.
	released map[string]struct{}

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
	c := &Cell{o: o, failed: map[string]error{}, released: map[string]struct{}{}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.cache, err = cache.Open(o.CacheDir, cache.Options{Quota: o.Quota, Log: o.Log}); err != nil {
		return nil, err
	}
	var failures []error
	for _, r := range o.Repositories {
		m, err := mount(ctx, r, &o, c.cache)
		if err != nil {
			failures = append(failures, err)
			c.failed[r.Name] = err
			continue
		}
		c.mounts = append(c.mounts, m)
	}
	if len(c.mounts) == 0 || ctx.Err() != nil {
		return nil, errors.Join(failures...)
	}
	for name, err := range c.failed {
		o.Log.Error("repository is not mounted, trying again", "repository", name, "error", err)
	}
	if err := c.loadFixedPins(); err != nil {
		return nil, err
	}
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
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range c.mounted() {
		g.Go(func() error { return c.serve(ctx, cancel, m) })
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
		server := &control.Server{Lowers: c, Reports: c, Calls: c.calls(), Log: c.o.Log}
		g.Go(func() error { return server.Serve(ctx, l) })
	}
	if c.o.Metrics != "" {
		serve, err := c.listenMetrics(ctx)
		if err != nil {
			return fail(err)
		}
		g.Go(serve)
	}
	if c.o.ScrubRate > 0 {
		g.Go(func() error { c.scrubLoop(ctx); return nil })
	}
	g.Go(func() error { c.remountLoop(ctx, cancel, g); return nil })
	ready()
	return g.Wait()
}

// serve answers m's mount and follows its repository. The mount of a single
// repository ending ends the cell; of several, it is made again.
func (c *Cell) serve(ctx context.Context, cancel context.CancelFunc, m *mounted) error {
	var following sync.WaitGroup
	inner, stop := context.WithCancel(ctx)
	following.Go(func() { m.follow(inner) })
	err := m.conn.Serve(ctx)
	stop()
	following.Wait()
	if len(c.o.Repositories) == 1 {
		cancel()
		return err
	}
	if ctx.Err() != nil {
		return err
	}
	if err == nil {
		err = errors.New("somebody unmounted it")
	}
	c.o.Log.Error("a mount ended and is made again", "repository", m.o.Name, "error", err)
	c.mu.Lock()
	for i := range c.mounts {
		if c.mounts[i] == m {
			c.mounts = append(c.mounts[:i:i], c.mounts[i+1:]...)
			break
		}
	}
	c.failed[m.o.Name] = err
	c.mu.Unlock()
	m.retire()
	return nil
}

// remountLoop mounts what could not be, or no longer is.
func (c *Cell) remountLoop(ctx context.Context, cancel context.CancelFunc, g *errgroup.Group) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(remountPause):
		}
		for _, r := range c.o.Repositories {
			c.mu.RLock()
			_, missing := c.failed[r.Name]
			c.mu.RUnlock()
			if !missing {
				continue
			}
			m, err := mount(ctx, r, &c.o, c.cache)
			if ctx.Err() != nil {
				if m != nil {
					m.close()
				}
				return
			}
			c.mu.Lock()
			if err != nil {
				c.failed[r.Name] = err
			} else {
				delete(c.failed, r.Name)
				c.mounts = append(c.mounts, m)
			}
			late := slices.Collect(maps.Keys(c.released))
			c.mu.Unlock()
			if err == nil {
				m.releaseAll(late)
				c.o.Log.Info("repository is mounted", "repository", r.Name, "revision", m.revision())
				g.Go(func() error { return c.serve(ctx, cancel, m) })
			}
		}
	}
}

func (c *Cell) close() {
	for _, m := range c.mounted() {
		m.close()
	}
	if c.cache != nil {
		if err := c.cache.Close(); err != nil {
			c.o.Log.Warn("cache not closed cleanly; what is young will be verified at the next start", "error", err)
		}
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
