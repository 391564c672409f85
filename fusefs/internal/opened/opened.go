// Package opened keeps contents open between READs: the FUSE protocol without
// OPEN names a file only by its node, and opening it for each READ would cost
// more than reading. What flows through it are READs, in, and the bytes of a
// [view.Content], out.
package opened

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// Opener opens the content of a node, which the caller closes and which
// outlives ctx. It follows the rules of package view.
type Opener func(ctx context.Context, n view.Node) (view.Content, error)

// Set is the contents that are open. A content is closed when it is both unused
// and either displaced by newer ones or the whole is closed, never under a
// reader. At most limit are kept unused, so the number open is limited by that
// and the number of reads at a time.
type Set struct {
	opener Opener
	limit  int

	mu     sync.Mutex
	byNode map[view.Node]*content
	unused list.List // of *content, least recently used in front
	closed bool
}

// content is one entry. content and err are set before ready is closed; the rest
// is guarded by Set.mu.
type content struct {
	node    view.Node
	content view.Content
	err     error
	ready   chan struct{}

	users int
	place *list.Element // in unused, nil while there are users
}

// New returns a set that keeps at most limit unused contents open. The caller
// closes it.
func New(open Opener, limit int) *Set {
	return &Set{opener: open, limit: limit, byNode: make(map[view.Node]*content)}
}

// acquire returns the open content of n, which the caller releases. Those who
// ask for one that is being opened wait for it; if that fails because the one
// who opens it gave up, they try themselves.
func (c *Set) acquire(ctx context.Context, n view.Node) (*content, error) {
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

// Keeper is a [view.Content] that can tell, without waiting, whether it is still
// good. One that nobody was reading is asked before it is read again, and opened
// anew if it is not.
type Keeper interface {
	Intact() bool
}

// intact asks a content that nobody was reading whether it is still good.
func intact(v view.Content) bool {
	k, ok := v.(Keeper)
	return !ok || k.Intact()
}

// forget makes e be opened anew for the next one who asks.
func (c *Set) forget(e *content) {
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
func (c *Set) open(ctx context.Context, e *content) (*content, error) {
	defer func() {
		// Also when the opener panics: no one may wait for ever.
		if e.content == nil && e.err == nil {
			e.err = errors.New("opening panicked")
		}
		if e.err != nil {
			c.mu.Lock()
			delete(c.byNode, e.node)
			c.mu.Unlock()
		}
		close(e.ready)
	}()
	e.content, e.err = c.opener(ctx, e.node)
	if e.err != nil {
		return nil, e.err
	}
	return e, nil
}

// openNow opens n with a context that is done, which may fail for that reason
// alone and must then be no one else's business.
func (c *Set) openNow(ctx context.Context, n view.Node) (*content, error) {
	v, err := c.opener(ctx, n)
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

// use counts a user in. mu is held.
func (c *Set) use(e *content) {
	e.users++
	if e.place != nil {
		c.unused.Remove(e.place)
		e.place = nil
	}
}

// release counts a user out and closes what is too much.
func (c *Set) release(e *content) {
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
func (c *Set) remove(at *list.Element) *content {
	e, _ := c.unused.Remove(at).(*content)
	e.place = nil
	delete(c.byNode, e.node)
	return e
}

// Close closes what is unused; the users of the rest close it. Reads that are
// under way end well, later ones fail.
func (c *Set) Close() error {
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
