package cell

import (
	"context"
	"fmt"
	"strings"

	"github.com/rootstock-cf/rootstock/cell/control"
)

// Lower implements control.Lowers: it finds the repository and has it make the
// tree ready, unless the cell is being emptied or the repository's whitelist
// ran out.
func (c *Cell) Lower(ctx context.Context, r control.LowerRequest) (control.Lower, error) {
	// Counted before the look at draining: Drain looks in the other order, so
	// one of the two sees the other.
	c.lowers.Add(1)
	defer c.lowers.Add(-1)
	if c.draining.Load() {
		return control.Lower{}, fmt.Errorf("%w: this cell is draining and takes no new containers", control.ErrUnavailable)
	}
	m, err := c.repository(r.Ref.Repository)
	if err != nil {
		return control.Lower{}, err
	}
	c.mu.Lock()
	delete(c.released, r.Handle)
	c.mu.Unlock()
	l, err := m.lower(ctx, r)
	if err != nil {
		return control.Lower{}, err
	}
	// The handle may have had a tree of another repository.
	for _, other := range c.mounted() {
		if other != m {
			if err := other.pins.release(r.Handle); err != nil {
				return control.Lower{}, err
			}
		}
	}
	return l, nil
}

// current refuses new trees when nothing vouches for the repository any more.
// What runs goes on.
func (m *mounted) current() error {
	if err := m.repo.Trusted(); err != nil {
		return fmt.Errorf("%w: %w", control.ErrUnavailable, err)
	}
	return nil
}

// Release implements control.Lowers.
func (c *Cell) Release(_ context.Context, handle string) error {
	c.mu.Lock()
	if len(c.failed) > 0 {
		c.released[handle] = struct{}{}
	} else if len(c.released) > 0 {
		clear(c.released)
	}
	c.mu.Unlock()
	c.profiles.End(handle)
	for _, m := range c.mounted() {
		if err := m.pins.release(handle); err != nil {
			return err
		}
	}
	return nil
}

// releaseAll gives up handles that were released before m was mounted, unless
// they were taken again.
func (m *mounted) releaseAll(handles []string) {
	for _, h := range handles {
		if err := m.pins.release(h); err != nil {
			m.cell.o.Log.Warn("container's tree stays pinned", "repository", m.o.Name, "container", h, "error", err)
		}
	}
}

// Containers implements control.Reporter.
func (c *Cell) Containers(context.Context) ([]control.Container, error) {
	var all []control.Container
	for _, m := range c.mounted() {
		all = append(all, m.pins.list()...)
	}
	return all, nil
}

// names lists the configured repositories for messages.
func (c *Cell) names() string {
	list := make([]string, len(c.o.Repositories))
	for i, r := range c.o.Repositories {
		list[i] = r.Name
	}
	return strings.Join(list, ", ")
}
