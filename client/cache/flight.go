package cache

import "context"

// flight is work on one key that several callers wait for.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int // guarded by Cache.mu
	err     error
}

// coalesce runs work once for all callers that come while it runs. A caller
// whose context ends leaves; the work goes on as long as somebody waits for
// it, with the values but not the deadline of the first caller's context. k
// is pinned meanwhile, so that those who waited find what was stored.
func (c *Cache) coalesce(ctx context.Context, k Key, work func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	c.mu.Lock()
	fl, running := c.flights[k]
	if !running {
		inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
		fl = &flight{done: make(chan struct{}), cancel: cancel}
		c.flights[k] = fl
		c.index.pin(k, 1)
		go func() {
			err := work(inner)
			c.mu.Lock()
			fl.err = err
			c.land(k, fl)
			c.mu.Unlock()
			close(fl.done)
			cancel()
		}()
	}
	fl.waiters++
	c.mu.Unlock()
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
		c.mu.Lock()
		if fl.waiters--; fl.waiters == 0 {
			// Whoever comes now starts anew instead of joining what is
			// about to be cancelled.
			c.land(k, fl)
			fl.cancel()
		}
		c.mu.Unlock()
		return context.Cause(ctx)
	}
}

// land ends a flight once. mu is held.
func (c *Cache) land(k Key, fl *flight) {
	if c.flights[k] == fl {
		delete(c.flights, k)
		c.index.pin(k, -1)
	}
}
