package cell

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/shift"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// Who maps the ids of a repository's mount for containers that have a user
// namespace (docs/design/cell.md).
const (
	IDsAuto   = "auto"   // the kernel if it can
	IDsKernel = "kernel" // idmapped mounts
	IDsDaemon = "daemon" // mounts that answer with other ids
)

// CheckIDMapping reports a value that is none of these, or empty.
func CheckIDMapping(s string) error {
	switch s {
	case "", IDsAuto, IDsKernel, IDsDaemon:
		return nil
	}
	return fmt.Errorf("id mapping %q is not one of %s, %s, %s", s, IDsAuto, IDsKernel, IDsDaemon)
}

// idMapping is who maps, and why he.
type idMapping struct {
	once    sync.Once
	mu      sync.Mutex
	by, why string
}

func (i *idMapping) get() (by, why string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.by, i.why
}

// chooseIDMapping decides, once, by trying with the first repository that is
// mounted.
func (c *Cell) chooseIDMapping(mountpoint string) {
	c.ids.once.Do(func() {
		by, why := c.o.IDMapping, "configured"
		if by == "" || by == IDsAuto {
			by, why = IDsKernel, "the kernel can map the ids of FUSE mounts"
			if err := overlay.CanMap(mountpoint); err != nil {
				by, why = IDsDaemon, err.Error()
			}
		}
		c.ids.mu.Lock()
		c.ids.by, c.ids.why = by, why
		c.ids.mu.Unlock()
		c.o.Log.Info("ids of trees are mapped by the "+by, "reason", why)
	})
}

// runDir is where mounts for containers are.
func (c *Cell) runDir() string {
	if c.o.RunDir != "" {
		return c.o.RunDir
	}
	return filepath.Join(c.cache.Dir(), "mnt")
}

// openShifted prepares for mounts with translated ids, for nodes of that tag.
func (m *mounted) openShifted(v tree.View, tag string) (err error) {
	m.shifted, err = shift.New(shift.Options{
		Dir: filepath.Join(m.cell.runDir(), "ids", m.o.Name), Name: m.o.Name, View: v,
		Holder: m.cell.holder, Tag: tag, NoResend: m.cell.o.NoResend, Log: m.cell.o.Log,
	})
	return err
}

// mapped returns the directory at path of the repository's mount with the ids
// that the request's containers need, or none where that is the kernel's work.
func (m *mounted) mapped(ctx context.Context, r control.LowerRequest, path string) ([]string, error) {
	mapping := overlay.Mapping{UIDs: r.UIDMaps, GIDs: r.GIDMaps}
	if by, _ := m.cell.ids.get(); by != IDsDaemon || mapping.IsZero() {
		return nil, nil
	}
	dir, err := m.shifted.Get(ctx, mapping)
	if err != nil {
		return nil, err
	}
	return []string{dir + path}, nil
}

// checkMapping reports a user namespace that cannot be.
func checkMapping(r control.LowerRequest) error {
	if err := (overlay.Mapping{UIDs: r.UIDMaps, GIDs: r.GIDMaps}).Validate(); err != nil {
		return fmt.Errorf("%w: %w", control.ErrInvalid, err)
	}
	return nil
}

// requests counts what the repository's mounts were asked.
func (m *mounted) requests() fusefs.Stats {
	_, n := m.shifted.Stats()
	return n.Add(m.conn.Stats())
}
