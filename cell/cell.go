// Package cell is the daemon of a cell: it joins a repository that package
// client verifies with the mount that package fusefs shows, keeps the newest
// revision in view, and makes trees ready for containers over its socket.
//
// One [Cell] is one repository and one mount. It knows who uses which tree and
// nothing of HTTP, FUSE or overlays, which are others' work.
package cell

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// DefaultRefresh is the time between two looks for a new revision.
const DefaultRefresh = 5 * time.Second

// Options describe a cell.
type Options struct {
	Name       string // fully qualified repository name
	Servers    []string
	Proxies    string // as CernVM-FS writes them; "" is DIRECT
	Keys       []*rsa.PublicKey
	CacheDir   string
	Quota      int64 // bytes of the cache; 0 for no bound but the disk
	Mountpoint string
	Socket     string // "" for none

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
	// Tier is how containers are shown trees: [TierAuto] by default.
	Tier string
	// RunDir is where the image tier mounts; "" is mnt in CacheDir.
	RunDir string

	// Refresh is the time between two looks for a new revision; 0 is
	// DefaultRefresh, or the repository's own TTL if FollowTTL. MaxTTL, if
	// not zero, is an upper limit for the latter.
	Refresh   time.Duration
	FollowTTL bool
	MaxTTL    time.Duration
	// Still stays with the revision that was found first.
	Still bool
	Log   *slog.Logger
}

// Cell is a mounted repository. Run serves it.
type Cell struct {
	o     Options
	cache *cache.Cache
	stack *fetch.Stack
	extra *fetch.Stack // of external files; nil without
	repo  *client.Repository
	fs    *tree.FS
	conn  *fusefs.Conn
	pins  *pins

	images  *image.Tier // nil: the tree tier
	tierWhy string
}

// Mount verifies the repository and mounts it. What it opened is closed by Run
// or, if it returns an error, by itself.
func Mount(ctx context.Context, o Options) (_ *Cell, err error) {
	if o.Refresh == 0 && !o.FollowTTL {
		o.Refresh = DefaultRefresh
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Getenv == nil {
		o.Getenv = os.LookupEnv
	}
	c := &Cell{o: o}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	network := o.Network
	network.Servers, network.Proxies = o.Servers, o.Proxies
	if c.stack, err = fetch.New(network); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	var external fetch.Fetcher
	if len(o.External) > 0 {
		network.Servers, network.Proxies, network.FallbackProxies = o.External, o.ExternalProxies, ""
		if c.extra, err = fetch.New(network); err != nil {
			return nil, fmt.Errorf("mount %s: external files: %w", o.Name, err)
		}
		external = c.extra
	}
	if c.cache, err = cache.Open(o.CacheDir, cache.Options{Quota: o.Quota, Log: o.Log}); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	if c.repo, err = client.Open(ctx, client.Options{
		Name: o.Name, Fetcher: c.stack, Trust: manifest.Trust{Keys: o.Keys}, Cache: c.cache,
		Tag: o.Tag, Date: o.Date, RootHash: o.RootHash, Still: o.Still, External: external, Owner: o.Owner,
		Blacklist: blacklistOf(o.Blacklist), Getenv: o.Getenv, Log: o.Log,
	}); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	if err = c.chooseTier(ctx); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	if c.pins, err = loadPins(ctx, filepath.Join(c.repo.StateDir(), "containers.json"), standing{c.repo, c.images}); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	c.sweepTrees(ctx)
	c.fs = tree.New(c.repo, tree.Options{})
	if c.conn, err = fusefs.Mount(ctx, c.fs, fusefs.Options{
		Mountpoint: o.Mountpoint, FSName: o.Name, Log: o.Log,
	}); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	return c, nil
}

// Revision is the revision shown now.
func (c *Cell) Revision() uint64 { return c.repo.Status().Revision }

// Mountpoint is the resolved path of the mount.
func (c *Cell) Mountpoint() string { return c.conn.Mountpoint() }

// Run serves the mount and the socket until ctx is done or somebody unmounts
// it, and then closes everything. Ready is called once both answer.
func (c *Cell) Run(ctx context.Context, ready func()) error {
	defer c.close()
	// The mount must answer before anything else looks at it, and go last.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer cancel()
		return c.conn.Serve(ctx)
	})
	if c.images != nil {
		g.Go(func() error { return c.images.Serve(ctx) })
	}
	if c.o.Socket != "" {
		l, err := control.Listen(c.o.Socket)
		if err != nil {
			cancel()
			return errors.Join(err, g.Wait())
		}
		server := &control.Server{Lowers: c, Reports: c, Log: c.o.Log}
		g.Go(func() error { return server.Serve(ctx, l) })
	}
	g.Go(func() error { return c.follow(ctx) })
	ready()
	return g.Wait()
}

func (c *Cell) close() {
	if c.conn != nil {
		c.conn.Unmount(context.Background()) //nolint:errcheck // logged there; unmounted already after Run
	}
	if c.fs != nil {
		c.fs.Close()
	}
	if c.images != nil {
		c.images.Close()
	}
	if c.repo != nil {
		c.repo.Close()
	}
	if c.cache != nil {
		if err := c.cache.Close(); err != nil {
			c.o.Log.Warn("cache not closed cleanly; what is young will be verified at the next start", "error", err)
		}
	}
	if c.stack != nil {
		c.stack.Close()
	}
	if c.extra != nil {
		c.extra.Close()
	}
}
