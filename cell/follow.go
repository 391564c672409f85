package cell

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
)

const (
	// leastTTL keeps a repository from making us ask without pause.
	leastTTL = time.Second
	// warning is how long before the whitelist's end its coming is said.
	warning = 72 * time.Hour
)

// follow looks for a new revision again and again and shows it. It says once
// that it cannot, and once that it can again. It ends early only when what is
// shown has been withdrawn and no container stands on it.
func (c *Cell) follow(ctx context.Context) error {
	failing := false
	var w watch
	for {
		// Jitter, so that the cells of a foundation do not ask in step.
		every := c.interval(c.repo.Status().TTL)
		pause := every*9/10 + rand.N(every/5+1) // #nosec G404 -- not a secret
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		err := c.refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // told to end, it has not failed
		case err != nil && !failing:
			c.o.Log.Warn("no new revision can be had; the last one stays in view", "repository", c.o.Name,
				"revision", c.Revision(), "error", err)
		case err == nil && failing:
			c.o.Log.Info("revisions can be had again", "repository", c.o.Name)
		}
		failing = err != nil
		if said := w.look(c.repo.Trusted(), c.repo.Status().WhitelistEnd, time.Now()); said != "" {
			c.o.Log.Warn(said, "repository", c.o.Name, "revision", c.Revision(), "containers", len(c.pins.list()))
		}
		if err := c.repo.Trusted(); errors.Is(err, manifest.ErrBlacklisted) && len(c.pins.list()) == 0 {
			return fmt.Errorf("unmounted: %w", err)
		}
	}
}

// interval is the time to the next look for a repository with that TTL.
func (c *Cell) interval(ttl time.Duration) time.Duration {
	if c.o.Refresh > 0 {
		return c.o.Refresh
	}
	if c.o.MaxTTL > 0 && (ttl > c.o.MaxTTL || ttl == 0) {
		ttl = c.o.MaxTTL
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

func (c *Cell) refresh(ctx context.Context) error {
	changed, err := c.repo.Refresh(ctx)
	if err != nil {
		return err
	}
	if !changed {
		return nil
	}
	if _, err := c.fs.ShowRoot(ctx, c.conn); err != nil {
		return err
	}
	c.o.Log.Info("new revision", "repository", c.o.Name, "revision", c.Revision())
	return nil
}
