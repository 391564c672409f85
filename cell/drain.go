package cell

import (
	"context"
	"errors"
	"time"
)

// Drain is the parameter of CallDrain. Undo ends the draining.
type Drain struct {
	Undo bool `json:"undo,omitempty"`
	// Wait is how long to wait for containers to go, in seconds; 0 not at all.
	Wait float64 `json:"wait_seconds,omitempty"`
}

// Drained is its result and its progress.
type Drained struct {
	Draining   bool     `json:"draining"`
	Containers []string `json:"containers"` // handles that are left
}

const drainPause = 200 * time.Millisecond

// drain refuses new containers, until undone, and waits a bounded time for those
// that there are to go.
func (c *Cell) drain(ctx context.Context, p Drain, progress func(any)) (Drained, error) {
	if was := c.draining.Swap(!p.Undo); was == p.Undo {
		c.o.Log.Info("draining", "on", !p.Undo)
	}
	wait := time.Duration(p.Wait * float64(time.Second))
	deadline, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	before := -1
	for {
		d, err := c.drained(ctx)
		if err != nil {
			return d, err
		}
		if p.Undo || len(d.Containers) == 0 && c.lowers.Load() == 0 {
			return d, nil
		}
		if len(d.Containers) != before {
			before = len(d.Containers)
			progress(d)
		}
		select {
		case <-deadline.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return d, ctx.Err()
			}
			return d, nil // who asked sees what is left
		case <-time.After(drainPause):
		}
	}
}

func (c *Cell) drained(ctx context.Context) (Drained, error) {
	d := Drained{Draining: c.draining.Load(), Containers: []string{}}
	all, err := c.Containers(ctx)
	for _, one := range all {
		d.Containers = append(d.Containers, one.Handle)
	}
	return d, err
}
