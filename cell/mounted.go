package cell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rootstock-cf/rootstock/cell/shift"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/manifest"
)

// mounted is one repository and its mount.
type mounted struct {
	o     Repository
	cell  *Cell
	stack *fetch.Stack
	extra *fetch.Stack // of external files; nil without
	repo  *client.Repository
	fs    *tree.FS
	conn  *fusefs.Conn
	pins  *pins
	// shifted are more mounts of it, for containers whose ids the kernel
	// cannot map.
	shifted *shift.Mounts
	// resumed says that an earlier process may have shown something else than
	// what is new now, shown is the root that the kernel knows; follow's.
	resumed bool
	shown   view.Node
	leads   leads
	lives   lives
	// wake asks follow for a refresh and takes where the outcome goes.
	wake chan chan<- error
}

// mount verifies a repository and mounts it.
func (c *Cell) mount(ctx context.Context, r Repository) (_ *mounted, err error) {
	if r.Refresh == 0 && !r.FollowTTL {
		r.Refresh = DefaultRefresh
	}
	if r.Getenv == nil {
		r.Getenv = os.LookupEnv
	}
	m := &mounted{o: r, cell: c, wake: make(chan chan<- error)}
	m.lives.since = c.o.Clock()
	defer func() {
		if err != nil {
			m.close()
			err = fmt.Errorf("mount %s: %w", r.Name, err)
		}
	}()
	kept, err := m.take(ctx)
	if err != nil {
		return nil, err
	}
	if kept != nil {
		defer kept.Close()
	}
	network := r.Network
	network.Servers, network.Proxies, network.Clock = r.Servers, r.Proxies, c.o.Clock
	if m.stack, err = fetch.New(network); err != nil {
		return nil, err
	}
	var external fetch.Fetcher
	if len(r.External) > 0 {
		network.Servers, network.Proxies, network.FallbackProxies = r.External, r.ExternalProxies, ""
		if m.extra, err = fetch.New(network); err != nil {
			return nil, fmt.Errorf("external files: %w", err)
		}
		external = m.extra
	}
	o := client.Options{
		Name: r.Name, Fetcher: m.stack, Trust: manifest.Trust{Keys: r.Keys}, Cache: c.cache,
		Tag: r.Tag, Date: r.Date, RootHash: r.RootHash, Still: r.Still, External: external, Owner: r.Owner,
		Blacklist: blacklistOf(r.Blacklist), Getenv: r.Getenv, Grace: c.o.Grace, Clock: c.o.Clock, Log: c.o.Log,
	}
	tag := m.nodes(&o, kept)
	m.repo, err = client.Open(ctx, o)
	if kept != nil && errors.Is(err, client.ErrNodes) {
		if err := m.giveUp(ctx, kept, err.Error()); err != nil {
			return nil, err
		}
		o.Resume, kept = false, nil
		tag = m.nodes(&o, nil)
		m.repo, err = client.Open(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	if err := m.connect(ctx, kept, tag); err != nil {
		return nil, err
	}
	c.chooseIDMapping(m.conn.Mountpoint())
	// Last: what is pinned stays so until another mount has it pinned, too.
	if m.pins, err = loadPins(ctx, filepath.Join(m.repo.StateDir(), "containers.json"), standing{m.repo, c.images}); err != nil {
		return nil, err
	}
	// After that: what earlier containers stand on is found only now.
	if err := m.shifted.Resume(ctx, m.repo.Roots()); err != nil {
		return nil, err
	}
	m.pins.gone = func(p pin) { m.lives.end(m.whole(p.Ref), p, c.o.Clock(), c.draining.Load()) }
	return m, nil
}

func (m *mounted) revision() uint64 { return m.repo.Status().Revision }

// close unmounts and closes what has no pins.
func (m *mounted) close() {
	m.unmount()
	if m.repo != nil {
		m.repo.Close()
	}
}

// unmount leaves the repository open, for images to be let go of.
func (m *mounted) unmount() {
	if m.shifted != nil {
		m.shifted.Close()
	}
	if m.conn != nil {
		m.conn.End(context.Background()) //nolint:errcheck // logged there; unmounted already after Run
	}
	m.retire()
}

// retire closes what a mount that has ended held. The repository's indexes stay
// mapped: a call over the socket may be in them.
func (m *mounted) retire() {
	if m.fs != nil {
		if err := m.fs.Close(); err != nil {
			m.cell.o.Log.Warn("contents not closed cleanly", "repository", m.o.Name, "error", err)
		}
	}
	for _, s := range []*fetch.Stack{m.stack, m.extra} {
		if s != nil {
			s.Close()
		}
	}
}
