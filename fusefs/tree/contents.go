package tree

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// contents keeps contents open between READs. A content is closed when it is
// both unused and either displaced by newer ones or the whole is closed, never
// under a reader. At most limit are kept unused, so the number open is limited
// by that and the number of reads at a time.
type contents struct {
	view  View
	limit int

	mu     sync.Mutex
	byNode map[view.Node]*content
	unused list.List // of *content, least recently used in front
	closed bool
}

// content is one entry. content and err are set before ready is closed; the rest
// is guarded by contents.mu.
type content struct {
	node    view.Node
	content view.Content
	err     error
	ready   chan struct{}

	users int
	place *list.Element // in unused, nil while there are users
}

func (c *contents) init(v View, limit int) {
	c.view, c.limit, c.byNode = v, limit, make(map[view.Node]*content)
}

// acquire returns the open content of n, which the caller releases. Those who
// ask for one that is being opened wait for it; if that fails because the one
// who opens it gave up, they try themselves.
func (c *contents) acquire(ctx context.Context, n view.Node) (*content, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, fmt.Errorf("open content of node %d: %w", n, fs.ErrClosed)
		}
		e, ok := c.byNode[n]
		aside := ok && e.place != nil
		if ok {
			c.use(e)
		} else if ctx.Err() == nil {
			e = &content{node: n, ready: make(chan struct{}), users: 1}
			c.byNode[n] = e
		}
		c.mu.Unlock()

		switch {
		case e == nil:
			return c.openNow(ctx, n)
		case !ok:
			return c.open(ctx, e)
		}
		select {
		case <-e.ready:
		default:
			select {
			case <-e.ready:
			case <-ctx.Done():
				c.release(e)
				return nil, ctx.Err()
			}
		}
		if aside && !intact(e.content) {
			c.forget(e)
			c.release(e)
			continue
		}
		if e.err == nil {
			return e, nil
		}
		c.release(e)
		if !gaveUp(e.err) || ctx.Err() != nil {
			return nil, e.err
		}
	}
}

// intact asks a content that nobody was reading whether it is still good.
func intact(v view.Content) bool {
	k, ok := v.(Keeper)
	return !ok || k.Intact()
}

// forget makes e be opened anew for the next one who asks.
func (c *contents) forget(e *content) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byNode[e.node] == e {
		delete(c.byNode, e.node)
	}
}

func gaveUp(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// open opens e for all who wait for it.
func (c *contents) open(ctx context.Context, e *content) (*content, error) {
	defer func() {
		// Also when the view panics: no one may wait for ever.
		if e.content == nil && e.err == nil {
			e.err = errors.New("view panicked")
		}
		if e.err != nil {
			c.mu.Lock()
			delete(c.byNode, e.node)
			c.mu.Unlock()
		}
		close(e.ready)
	}()
	e.content, e.err = c.openView(ctx, e.node)
	if e.err != nil {
		return nil, e.err
	}
	return e, nil
}

// openNow opens n with a context that is done, which may fail for that reason
// alone and must then be no one else's business.
func (c *contents) openNow(ctx context.Context, n view.Node) (*content, error) {
	v, err := c.openView(ctx, n)
	if err != nil {
		return nil, err
	}
	e := &content{node: n, content: v, ready: make(chan struct{}), users: 1}
	close(e.ready)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.byNode[n]; !taken && !c.closed {
		c.byNode[n] = e
	}
	return e, nil
}

func (c *contents) openView(ctx context.Context, n view.Node) (view.Content, error) {
	a, err := c.view.Attr(ctx, n)
	if err != nil {
		return nil, err
	}
	v, err := c.view.Open(ctx, n)
	if err != nil {
		return nil, err
	}
	if v.Size() != a.Size {
		err := fmt.Errorf("node %d: %w: %d and %d bytes", n, errSize, v.Size(), a.Size)
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// use counts a user in. mu is held.
func (c *contents) use(e *content) {
	e.users++
	if e.place != nil {
		c.unused.Remove(e.place)
		e.place = nil
	}
}

// release counts a user out and closes what is too much.
func (c *contents) release(e *content) {
	c.mu.Lock()
	var victim *content
	e.users--
	if e.users == 0 {
		switch {
		case c.byNode[e.node] != e:
			victim = e // failed, one too many, or the whole is closed
		default:
			e.place = c.unused.PushBack(e)
			if c.unused.Len() > c.limit {
				victim = c.remove(c.unused.Front())
			}
		}
	}
	c.mu.Unlock()
	if victim != nil && victim.content != nil {
		// What was read is right; there is no one to tell of a failing close.
		_ = victim.content.Close()
	}
}

// remove takes an unused content out. mu is held.
func (c *contents) remove(at *list.Element) *content {
	e, _ := c.unused.Remove(at).(*content)
	e.place = nil
	delete(c.byNode, e.node)
	return e
}

// close closes what is unused; the users of the rest close it.
func (c *contents) close() error {
	c.mu.Lock()
	c.closed = true
	var victims []*content
	for c.unused.Len() > 0 {
		victims = append(victims, c.remove(c.unused.Front()))
	}
	clear(c.byNode)
	c.mu.Unlock()
	var errs []error
	for _, e := range victims {
		errs = append(errs, e.content.Close())
	}
	return errors.Join(errs...)
}
