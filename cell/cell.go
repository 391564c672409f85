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
	"github.com/rootstock-cf/rootstock/cell/registry"
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
	RootHash object.Hash

	// Refresh is the time between two looks for a new revision; 0 is
	// DefaultRefresh.
	Refresh time.Duration
	Log     *slog.Logger
}

// Cell is a mounted repository. Run serves it.
type Cell struct {
	o     Options
	cache *cache.Cache
	stack *fetch.Stack
	repo  *client.Repository
	fs    *tree.FS
	conn  *fusefs.Conn
	pins  *pins
}

// Mount verifies the repository and mounts it. What it opened is closed by Run
// or, if it returns an error, by itself.
func Mount(ctx context.Context, o Options) (_ *Cell, err error) {
	if o.Refresh == 0 {
		o.Refresh = DefaultRefresh
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cell{o: o}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.stack, err = fetch.New(fetch.Config{Servers: o.Servers, Proxies: o.Proxies}); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	if c.cache, err = cache.Open(o.CacheDir, cache.Options{Quota: o.Quota, Log: o.Log}); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	if c.repo, err = client.Open(ctx, client.Options{
		Name: o.Name, Fetcher: c.stack, Trust: manifest.Trust{Keys: o.Keys}, Cache: c.cache,
		Tag: o.Tag, RootHash: o.RootHash, Getenv: os.LookupEnv, Log: o.Log,
	}); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	if c.pins, err = loadPins(filepath.Join(c.repo.StateDir(), "containers.json"), c.repo); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Name, err)
	}
	c.fs = tree.New(c.repo, tree.Options{})
	if c.conn, err = fusefs.Mount(ctx, c.fs, fusefs.Options{
		Mountpoint: o.Mountpoint, FSName: o.Name, NoXAttrs: !c.repo.AnyXAttrs(), Log: o.Log,
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
	if c.o.Socket != "" {
		l, err := control.Listen(c.o.Socket)
		if err != nil {
			cancel()
			return errors.Join(err, g.Wait())
		}
		server := &control.Server{Lowers: c, Reports: c, Asks: registry.New(), Log: c.o.Log}
		g.Go(func() error { return server.Serve(ctx, l) })
	}
	g.Go(func() error {
		c.follow(ctx)
		return nil
	})
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
}
