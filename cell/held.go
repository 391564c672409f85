package cell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/holder"
	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/cell/shift"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
)

// CallRestart ends the worker in favour of the program that now is in the file
// it was started from.
const CallRestart = "restart"

// ErrRestart is what Run returns when somebody asked for a restart: the caller
// is to execute its program again.
var ErrRestart = errors.New("restart")

const repositoryKeys = "repository/"

func (m *mounted) key() string { return repositoryKeys + m.o.Name }

// nodesFile keeps what the nodes of the mount with that tag mean.
func (m *mounted) nodesFile(tag string) string {
	return filepath.Join(m.cell.cache.Dir(), "state", m.o.Name, "nodes-"+tag)
}

// take returns the mount that the holder kept of this repository; nil if it has
// none that can be gone on with.
func (m *mounted) take(ctx context.Context) (*holder.Held, error) {
	if m.cell.holder == nil {
		return nil, nil
	}
	h, err := m.cell.holder.Take(ctx, m.key())
	if errors.Is(err, holder.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	why := ""
	_, serr := os.Stat(m.nodesFile(h.Tag))
	path, err := filepath.Abs(m.o.Mountpoint)
	switch {
	case err != nil:
		return nil, err
	case !h.Mounted:
		why = "somebody unmounted it"
	case h.Path != path:
		why = "the mountpoint is another one now"
	case serr != nil:
		why = serr.Error()
	default:
		return h, nil
	}
	return nil, m.giveUp(ctx, h, why)
}

// giveUp drops a mount that cannot be gone on with.
func (m *mounted) giveUp(ctx context.Context, h *holder.Held, why string) error {
	m.cell.o.Log.Warn("a mount of an earlier process is not gone on with", "repository", m.o.Name, "mountpoint", h.Mountpoint, "reason", why)
	h.Close()
	os.Remove(m.nodesFile(h.Tag))
	return m.cell.holder.Drop(ctx, m.key())
}

// connect shows the repository: on the mount h, or on a new one if h is nil.
func (m *mounted) connect(ctx context.Context, h *holder.Held, tag string) (err error) {
	o := fusefs.Options{Mountpoint: m.o.Mountpoint, FSName: m.o.Name, NoResend: m.cell.o.NoResend, Log: m.cell.o.Log}
	shown := notedView{m.repo, m.repo.Digest, m.cell.opened}
	if err := m.openShifted(shown, tag); err != nil {
		return err
	}
	m.fs = tree.New(shown, tree.Options{Roots: m.repo.Roots()})
	if m.cell.holder == nil {
		m.conn, err = fusefs.Mount(ctx, m.fs, o)
		return err
	}
	if m.resumed = h != nil; !m.resumed {
		m.shown = m.repo.Root()
		m.repo.Shown(m.shown)
		path, err := filepath.Abs(m.o.Mountpoint)
		if err != nil {
			return err
		}
		if h, err = m.cell.holder.Open(ctx, holder.Mount{Key: m.key(), Tag: tag, Path: path, FSName: o.FSName}); err != nil {
			return err
		}
		defer h.Close()
	}
	m.conn, err = h.Adopt(m.fs, o)
	return err
}

// options are the client's for a repository with that tag's nodes.
func (m *mounted) nodes(o *client.Options, h *holder.Held) (tag string) {
	if m.cell.holder == nil {
		return ""
	}
	if h != nil {
		o.Nodes, o.Resume = m.nodesFile(h.Tag), true
		return h.Tag
	}
	if old, err := filepath.Glob(m.nodesFile("*")); err == nil {
		for _, name := range old {
			os.Remove(name)
		}
	}
	tag = holder.NewTag()
	o.Nodes = m.nodesFile(tag)
	return tag
}

// show has the kernel see the newest root, and what an earlier process did not
// get to tell it.
func (m *mounted) show(ctx context.Context) error {
	root := m.repo.Root()
	news := m.resumed || root != m.shown
	if news {
		m.repo.Showing(root)
	}
	changed, err := m.fs.ShowRoot(ctx, m.conn)
	if err = errors.Join(err, m.shifted.ShowRoot(ctx)); err != nil {
		return err
	}
	if news {
		m.repo.Shown(root)
		m.shown, m.resumed = root, false
	}
	if changed {
		m.cell.o.Log.Info("new revision", "repository", m.o.Name, "revision", m.revision())
	}
	return nil
}

// drop has the holder forget a mount that has ended.
func (c *Cell) drop(m *mounted) {
	if c.holder == nil {
		return
	}
	if err := c.holder.Drop(context.Background(), m.key()); err != nil {
		c.o.Log.Warn("the holder keeps a mount that has ended", "repository", m.o.Name, "error", err)
	}
}

// dropUnused has the holder unmount what no setting asks for any more.
func (c *Cell) dropUnused(ctx context.Context) {
	if c.holder == nil {
		return
	}
	for _, h := range c.holder.Mounts() {
		name, isRepository := strings.CutPrefix(h.Key, repositoryKeys)
		used := slices.ContainsFunc(c.o.Repositories, func(r Repository) bool {
			return isRepository && r.Name == name || strings.HasPrefix(h.Key, shift.HolderKeys(r.Name))
		}) || strings.HasPrefix(h.Key, image.HolderKeys) && c.images != nil
		if used {
			continue
		}
		c.o.Log.Warn("unmounting what an earlier process mounted and the configuration does not name", "mountpoint", h.Mountpoint)
		if err := c.holder.Drop(ctx, h.Key); err != nil {
			c.o.Log.Warn("not unmounted", "mountpoint", h.Mountpoint, "error", err)
		}
	}
}

func (c *Cell) holderPID() int {
	if c.holder == nil {
		return 0
	}
	return c.holder.PID()
}

// startAgain ends Run with ErrRestart.
func (c *Cell) startAgain(context.Context, struct{}) (struct{}, error) {
	if c.holderPID() == 0 {
		return struct{}{}, fmt.Errorf("%w: without a holder a restart would take the mounts from the containers; start rootstock-cell hold, and this daemon with --holder", control.ErrInvalid)
	}
	c.o.Log.Info("somebody asked for a restart")
	c.restart.Store(true)
	(*c.stop.Load())()
	return struct{}{}, nil
}
