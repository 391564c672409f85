package cell

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/manifest"
)

// mounted is one repository and its mount.
type mounted struct {
	o     Repository
	cell  *Options
	cache *cache.Cache
	stack *fetch.Stack
	repo  *client.Repository
	fs    *tree.FS
	conn  *fusefs.Conn
	pins  *pins
	// wake asks follow for a refresh and takes where the outcome goes.
	wake chan chan<- error
}

// mount verifies a repository and mounts it.
func mount(ctx context.Context, r Repository, o *Options, c *cache.Cache) (_ *mounted, err error) {
	if r.Refresh == 0 {
		r.Refresh = DefaultRefresh
	}
	m := &mounted{o: r, cell: o, cache: c, wake: make(chan chan<- error)}
	defer func() {
		if err != nil {
			m.close()
			err = fmt.Errorf("mount %s: %w", r.Name, err)
		}
	}()
	if m.stack, err = fetch.New(fetch.Config{
		Servers: r.Servers, Proxies: r.Proxies, Timeout: r.RequestTimeout, TimeoutDirect: r.RequestTimeout, Clock: o.Clock,
	}); err != nil {
		return nil, err
	}
	if m.repo, err = client.Open(ctx, client.Options{
		Name: r.Name, Fetcher: m.stack, Trust: manifest.Trust{Keys: r.Keys}, Cache: c,
		Tag: r.Tag, RootHash: r.RootHash, Getenv: os.LookupEnv, Grace: o.Grace, Clock: o.Clock, Log: o.Log,
	}); err != nil {
		return nil, err
	}
	if m.pins, err = loadPins(filepath.Join(m.repo.StateDir(), "containers.json"), m.repo); err != nil {
		return nil, err
	}
	m.fs = tree.New(m.repo, tree.Options{})
	m.conn, err = fusefs.Mount(ctx, m.fs, fusefs.Options{
		Mountpoint: r.Mountpoint, FSName: r.Name, NoXAttrs: !m.repo.AnyXAttrs(), Log: o.Log,
	})
	return m, err
}

func (m *mounted) revision() uint64 { return m.repo.Status().Revision }

// close unmounts and closes everything.
func (m *mounted) close() {
	if m.conn != nil {
		m.conn.Unmount(context.Background()) //nolint:errcheck // logged there; unmounted already after Run
	}
	m.retire()
	if m.repo != nil {
		m.repo.Close()
	}
}

// retire closes what a mount that has ended held. The repository's indexes stay
// mapped: a call over the socket may be in them.
func (m *mounted) retire() {
	if m.fs != nil {
		if err := m.fs.Close(); err != nil {
			m.cell.Log.Warn("contents not closed cleanly", "repository", m.o.Name, "error", err)
		}
	}
	if m.stack != nil {
		m.stack.Close()
	}
}
