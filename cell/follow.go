package cell

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/manifest"
)

const (
	// leastTTL keeps a repository from making us ask without pause.
	leastTTL = time.Second
	// warning is how long before the whitelist's end its coming is said.
	warning = 72 * time.Hour
	// resumedPause is how soon the servers are asked after a start that asked
	// none.
	resumedPause = 100 * time.Millisecond
)

// follow looks for a new revision again and again and shows it. It says once
// that it cannot, and once that it can again. It ends early only when what is
// shown has been withdrawn and no container stands on it.
func (m *mounted) follow(ctx context.Context) error {
	failing := false
	var w watch
	for {
		// Jitter, so that the cells of a foundation do not ask in step.
		every := m.interval(m.repo.Status().TTL)
		pause := every*9/10 + rand.N(every/5+1) // #nosec G404 -- not a secret
		if m.resumed {
			pause = min(pause, resumedPause)
			if err := m.show(ctx); err != nil && ctx.Err() == nil {
				m.cell.o.Log.Warn("what an earlier process showed last is not put right yet", "repository", m.o.Name, "error", err)
			}
		}
		var asked chan<- error
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		case asked = <-m.wake:
		}
		err := m.refresh(ctx)
		if asked != nil {
			asked <- err
		}
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // told to end, it has not failed
		case err != nil && !failing:
			m.cell.o.Log.Warn("no new revision can be had; the last one stays in view", "repository", m.o.Name,
				"revision", m.revision(), "error", err)
		case err == nil && failing:
			m.cell.o.Log.Info("revisions can be had again", "repository", m.o.Name)
		}
		failing = err != nil
		if said := w.look(m.repo.Trusted(), m.repo.Status().WhitelistEnd, m.cell.o.Clock()); said != "" {
			m.cell.o.Log.Warn(said, "repository", m.o.Name, "revision", m.revision(), "containers", len(m.pins.list()))
		}
		if err := m.repo.Trusted(); errors.Is(err, manifest.ErrBlacklisted) && len(m.pins.list()) == 0 {
			return fmt.Errorf("unmounted: %w", err)
		}
	}
}

// interval is the time to the next look for a repository with that TTL.
func (m *mounted) interval(ttl time.Duration) time.Duration {
	if m.o.Refresh > 0 {
		return m.o.Refresh
	}
	if m.o.MaxTTL > 0 && (ttl > m.o.MaxTTL || ttl == 0) {
		ttl = m.o.MaxTTL
	}
	if ttl == 0 {
		ttl = DefaultRefresh
	}
	return max(ttl, leastTTL)
}

// watch remembers what was said about the repository's standing, to say each
// thing once.
type watch struct {
	untrusted bool
	warned    time.Time // the end of the whitelist that was warned of
}

// look returns what there is to say, or "".
func (w *watch) look(trusted error, end, now time.Time) string {
	switch was := w.untrusted; {
	case trusted != nil && !was:
		w.untrusted = true
		return "no new containers until this is put right; those that run keep their trees: " + trusted.Error()
	case trusted == nil && was:
		w.untrusted = false
		return "the repository can be trusted again; new containers get their trees"
	}
	if trusted == nil && !end.IsZero() && end.Sub(now) < warning && !end.Equal(w.warned) {
		w.warned = end
		return "the whitelist ends at " + end.UTC().Format(time.RFC3339) + "; its owner has to sign a new one with the master key"
	}
	return ""
}

func (m *mounted) refresh(ctx context.Context) error {
	if _, err := m.repo.Refresh(ctx); err != nil {
		return err
	}
	return m.show(ctx)
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
