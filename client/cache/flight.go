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
	fl, lead, err := c.board(ctx, k)
	if err != nil {
		return err
	}
	if lead != nil {
		go c.fly(lead, k, fl, work)
	}
	return c.wait(ctx, k, fl)
}

// coalesceHere is coalesce for a caller who has a goroutine to spare: the first
// one does the work itself, and stays with it for others even if its own context
// ends.
func (c *Cache) coalesceHere(ctx context.Context, k Key, work func(context.Context) error) error {
	fl, lead, err := c.board(ctx, k)
	if err != nil {
		return err
	}
	if lead == nil {
		return c.wait(ctx, k, fl)
	}
	stop := context.AfterFunc(ctx, func() { c.leave(k, fl) })
	defer stop()
	c.fly(lead, k, fl, work)
	return fl.err
}

// board makes the caller one of those who wait for a flight. lead is not nil if
// the caller has to see to the work, with that context.
func (c *Cache) board(ctx context.Context, k Key) (fl *flight, lead context.Context, err error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fl, running := c.flights[k]
	if !running {
		fl = &flight{done: make(chan struct{})}
		lead, fl.cancel = context.WithCancel(context.WithoutCancel(ctx))
		c.flights[k] = fl
		c.index.pin(k, 1)
	}
	fl.waiters++
	return fl, lead, nil
}

func (c *Cache) wait(ctx context.Context, k Key, fl *flight) error {
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
		c.leave(k, fl)
		return context.Cause(ctx)
	}
}

func (c *Cache) fly(ctx context.Context, k Key, fl *flight, work func(context.Context) error) {
	err := work(ctx)
	c.mu.Lock()
	fl.err = err
	c.land(k, fl)
	c.mu.Unlock()
	close(fl.done)
	fl.cancel()
}

// leave is for a caller who no longer waits.
func (c *Cache) leave(k Key, fl *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if fl.waiters--; fl.waiters == 0 {
		// Whoever comes now starts anew instead of joining what is about to
		// be cancelled.
		c.land(k, fl)
		fl.cancel()
	}
}

// land ends a flight once. mu is held.
func (c *Cache) land(k Key, fl *flight) {
	if c.flights[k] == fl {
		delete(c.flights, k)
		c.index.pin(k, -1)
	}
}
