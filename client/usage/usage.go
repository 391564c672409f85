// Package usage counts what the bytes in a cell's cache are for: for one tree
// that is in use, for several, pinned, or for nobody, so that they could go.
//
// A [Ledger] is told of every content that comes, goes, or is pinned, and of the
// tables of the trees in use, and keeps sums; asking costs nothing. A table that
// comes or goes is counted in the background, content by content in the order of
// the ids. While that lasts the table counts as having the contents up to where
// the count has got: so each content is counted once, whatever happens to it
// meanwhile, and no memory is needed per content.
package usage

import (
	"context"
	"sync"

	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

// Table lists the contents of a tree in the order of their ids.
type Table interface {
	Len() int
	At(i int) object.ContentID
	Index(id object.ContentID) (i int, ok bool)
}

// Totals are sums over the cache, in bytes. Each content counts once:
// Bytes = Exclusive + Shared + Pinned + Reclaimable.
type Totals struct {
	Bytes       int64 `json:"bytes"`
	Exclusive   int64 `json:"exclusive"`   // of one tree in use
	Shared      int64 `json:"shared"`      // of several
	Pinned      int64 `json:"pinned"`      // of none, and pinned: by an operator, or what trees and catalogs are read from
	Reclaimable int64 `json:"reclaimable"` // of none, and not pinned
}

// Tree is what one tree in use has in the cache, in bytes.
type Tree struct {
	Exclusive int64 `json:"exclusive"` // of no other tree in use
	Shared    int64 `json:"shared"`    // of others, too
	Pinned    int64 `json:"pinned"`    // of both, what stays if the tree goes out of use
}

// batch is how many contents are counted without letting others at the cache.
const batch = 64

// Ledger keeps the sums. All methods may be called concurrently.
type Ledger struct {
	cache *cache.Cache

	// Guarded by the cache's own lock, with which the cache calls.
	tables []*Counted
	trees  map[object.ContentID]*Tree
	totals Totals

	// mu is taken last.
	mu     sync.Mutex
	queue  []func(stop func() bool)
	wake   chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Counted is a table in a ledger.
type Counted struct {
	tree  object.ContentID
	table Table
	upto  int // the contents before that count
}

// New counts what is in c from now on. The caller closes the ledger before c.
func New(c *cache.Cache) *Ledger {
	l := &Ledger{cache: c, trees: map[object.ContentID]*Tree{}, wake: make(chan struct{}, 1)}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	c.Watch(l.changed)
	l.done.Go(func() { l.work(ctx) })
	return l
}

// Close ends the counting. Tables that were on their way out are dropped.
func (l *Ledger) Close() {
	l.cache.Watch(nil)
	l.cancel()
	l.done.Wait()
}

// Add counts a table in. It must stay readable until Remove says otherwise, or
// the ledger is closed.
func (l *Ledger) Add(tree object.ContentID, t Table) *Counted {
	n := &Counted{tree: tree, table: t}
	l.enqueue(func(stop func() bool) {
		l.cache.Locked(func(cache.Find) {
			l.tables = append(l.tables, n)
			if l.trees[tree] == nil {
				l.trees[tree] = &Tree{}
			}
		})
		for n.upto < t.Len() && !stop() {
			l.move(n, min(n.upto+batch, t.Len()))
		}
	})
	return n
}

// Remove counts a table out and then calls dropped, from when on the table is
// not used any more.
func (l *Ledger) Remove(n *Counted, dropped func()) {
	l.enqueue(func(stop func() bool) {
		for n.upto > 0 && !stop() {
			l.move(n, max(n.upto-batch, 0))
		}
		l.cache.Locked(func(cache.Find) { l.forget(n) })
		dropped()
	})
}

// forget is called with the cache's lock held.
func (l *Ledger) forget(n *Counted) {
	last := true
	for i := 0; i < len(l.tables); i++ {
		switch {
		case l.tables[i] == n:
			l.tables = append(l.tables[:i:i], l.tables[i+1:]...)
			i--
		case l.tables[i].tree == n.tree:
			last = false
		}
	}
	if last {
		delete(l.trees, n.tree)
	}
}

// move counts a table's contents in or out, up to or down to the one before to.
func (l *Ledger) move(n *Counted, to int) {
	l.cache.Locked(func(find cache.Find) {
		for n.upto != to {
			step, at := 1, n.upto
			if to < n.upto {
				step, at = -1, n.upto-1
			}
			ids, size, s := find(n.table.At(at))
			l.apply(ids, -size, s)
			n.upto += step
			l.apply(ids, size, s)
		}
	})
}

// changed is called with the cache's lock held.
func (l *Ledger) changed(ids []object.ContentID, size int64, before, after cache.State) {
	l.apply(ids, -size, before)
	l.apply(ids, size, after)
}

// apply adds size to the sums that a content in a state belongs to. A table may
// have it by any of its ids.
func (l *Ledger) apply(ids []object.ContentID, size int64, s cache.State) {
	if !s.Present {
		return
	}
	var few [8]*Tree
	trees := few[:0]
next:
	for _, n := range l.tables {
		if !n.counts(ids) {
			continue
		}
		t := l.trees[n.tree]
		for _, other := range trees {
			if other == t { // as another repository has it
				continue next
			}
		}
		trees = append(trees, t)
	}
	l.totals.Bytes += size
	switch {
	case len(trees) == 1:
		l.totals.Exclusive += size
		trees[0].Exclusive += size
	case len(trees) > 1:
		l.totals.Shared += size
		for _, t := range trees {
			t.Shared += size
		}
	case s.Pinned:
		l.totals.Pinned += size
	default:
		l.totals.Reclaimable += size
	}
	if s.Pinned {
		for _, t := range trees {
			t.Pinned += size
		}
	}
}

// counts reports whether the table has one of the ids among what is counted.
func (n *Counted) counts(ids []object.ContentID) bool {
	for _, id := range ids {
		if i, ok := n.table.Index(id); ok && i < n.upto {
			return true
		}
	}
	return false
}

// Usage returns the sums once all tables that came or went before the call have
// been counted, which takes no time unless they have just done so.
func (l *Ledger) Usage(ctx context.Context) (total Totals, trees map[object.ContentID]Tree, err error) {
	counted := make(chan struct{})
	l.enqueue(func(func() bool) { close(counted) })
	select {
	case <-counted:
	case <-ctx.Done():
		return Totals{}, nil, context.Cause(ctx)
	}
	l.cache.Locked(func(cache.Find) {
		total, trees = l.totals, make(map[object.ContentID]Tree, len(l.trees))
		for id, t := range l.trees {
			trees[id] = *t
		}
	})
	return total, trees, nil
}

func (l *Ledger) enqueue(job func(stop func() bool)) {
	l.mu.Lock()
	l.queue = append(l.queue, job)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// work does the jobs in their order. When it is told to end, those that are left
// do no more than they must.
func (l *Ledger) work(ctx context.Context) {
	stop := func() bool { return ctx.Err() != nil }
	for {
		l.mu.Lock()
		jobs := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, job := range jobs {
			job(stop)
		}
		if len(jobs) > 0 {
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
	}
}
