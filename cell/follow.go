package cell

import (
	"context"
	"math/rand/v2"
	"time"
)

// follow looks for a new revision again and again and shows it. It says once
// that it cannot, and once that it can again.
func (c *Cell) follow(ctx context.Context) {
	failing := false
	for {
		// Jitter, so that the cells of a foundation do not ask in step.
		pause := c.o.Refresh*9/10 + rand.N(c.o.Refresh/5+1) // #nosec G404 -- not a secret
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		err := c.refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			c.o.Log.Warn("no new revision can be had; the last one stays in view", "repository", c.o.Name,
				"revision", c.Revision(), "error", err)
		case err == nil && failing:
			c.o.Log.Info("revisions can be had again", "repository", c.o.Name)
		}
		failing = err != nil
	}
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
