package cell

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
)

// follow looks for a new revision again and again, and when asked, and shows it.
// It says once that it cannot, and once that it can again.
func (m *mounted) follow(ctx context.Context) {
	failing := false
	for {
		// Jitter, so that the cells of a foundation do not ask in step.
		pause := m.o.Refresh*9/10 + rand.N(m.o.Refresh/5+1) // #nosec G404 -- not a secret
		var asked chan<- error
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case asked = <-m.wake:
		}
		err := m.refresh(ctx)
		if asked != nil {
			asked <- err
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			m.cell.Log.Warn("no new revision can be had; the last one stays in view", "repository", m.o.Name,
				"revision", m.revision(), "error", err)
		case err == nil && failing:
			m.cell.Log.Info("revisions can be had again", "repository", m.o.Name)
		}
		failing = err != nil
	}
}

func (m *mounted) refresh(ctx context.Context) error {
	changed, err := m.repo.Refresh(ctx)
	if err != nil {
		return err
	}
	if !changed {
		return nil
	}
	if _, err := m.fs.ShowRoot(ctx, m.conn); err != nil {
		return err
	}
	m.cell.Log.Info("new revision", "repository", m.o.Name, "revision", m.revision())
	return nil
}

// refreshNow has follow refresh at once and waits for the outcome.
func (m *mounted) refreshNow(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case m.wake <- done:
	case <-ctx.Done():
		return fmt.Errorf("refresh %s: %w", m.o.Name, ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("refresh %s: %w", m.o.Name, ctx.Err())
	}
}

// Refresh looks for new revisions at once, of the named repositories or, with
// no name, of all, and returns one element for each. It waits for the outcome.
func (c *Cell) Refresh(ctx context.Context, names ...string) ([]Refreshed, error) {
	if len(names) == 0 {
		for _, m := range c.mounted() {
			names = append(names, m.o.Name)
		}
	}
	list := make([]Refreshed, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		m, err := c.repository(name)
		if err != nil {
			return nil, err
		}
		all.Go(func() {
			before := m.revision()
			err := m.refreshNow(ctx)
			list[i] = Refreshed{Name: name, Revision: m.revision()}
			list[i].Changed = list[i].Revision != before
			if err != nil {
				list[i].Error = err.Error()
			}
		})
	}
	all.Wait()
	return list, nil
}

// Refreshed is what became of a look for a new revision.
type Refreshed struct {
	Name     string `json:"name"`
	Revision uint64 `json:"revision"`
	Changed  bool   `json:"changed"`
	Error    string `json:"error,omitempty"`
}

// repository finds a mounted repository; "" is the only one there is.
func (c *Cell) repository(name string) (*mounted, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if name == "" {
		if len(c.o.Repositories) != 1 {
			return nil, fmt.Errorf("%w: this cell has %d repositories (%s); name one", control.ErrInvalid, len(c.o.Repositories), c.names())
		}
		name = c.o.Repositories[0].Name
	}
	for _, m := range c.mounts {
		if m.o.Name == name {
			return m, nil
		}
	}
	if err, ok := c.failed[name]; ok {
		return nil, fmt.Errorf("%w: %s is not mounted yet: %w", control.ErrUnavailable, name, errors.New(err.Error()))
	}
	return nil, fmt.Errorf("%w: this cell does not mount %s, only %s", control.ErrNotFound, name, c.names())
}
