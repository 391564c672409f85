package replica

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/store"
)

// inMemory bounds the stored bytes under way of objects that have to be in
// memory, catalogs and what goes to a bucket. One that is larger goes alone.
const inMemory = 256 << 20

// expected is how many bytes of such an object memory is made for before they
// come; chunks are no larger, but for those that somebody else cut.
const expected = 32 << 20

// ref is an object to be copied.
type ref struct {
	hash object.Hash
	typ  object.Type
}

func (r ref) name() string { return object.Path(r.hash, r.typ) }

// copier copies objects verbatim. What several ask for at once is copied once.
type copier struct {
	from   fetch.Fetcher
	to     store.Store
	room   *semaphore.Weighted
	copied func(bytes int64)

	mu     sync.Mutex
	flying map[ref]*flight
	spare  sync.Pool // of *memory
}

type flight struct {
	done chan struct{}
	err  error
}

func newCopier(from fetch.Fetcher, to store.Store, copied func(int64)) *copier {
	return &copier{
		from: from, to: to, copied: copied, room: semaphore.NewWeighted(inMemory),
		flying: map[ref]*flight{}, spare: sync.Pool{New: func() any { return new(memory) }},
	}
}

// object makes sure that the store has r, which holds at most plain bytes.
func (c *copier) object(ctx context.Context, r ref, plain int64) error {
	for {
		c.mu.Lock()
		f := c.flying[r]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			c.flying[r] = f
			c.mu.Unlock()
			f.err = c.once(ctx, r, plain)
			c.mu.Lock()
			delete(c.flying, r)
			c.mu.Unlock()
			close(f.done)
			return f.err
		}
		c.mu.Unlock()
		select {
		case <-f.done:
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *copier) once(ctx context.Context, r ref, plain int64) error {
	_, there, err := c.to.Has(ctx, r.name())
	if err != nil || there {
		return err
	}
	d, err := c.draft(ctx, r, plain)
	if err != nil {
		return err
	}
	err = c.fetch(ctx, r, bound(plain), d)
	var n int64
	if err == nil {
		n, err = d.Commit(ctx)
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	c.copied(n)
	return nil
}

// draft begins r in the store, or in memory for a store that takes whole objects.
func (c *copier) draft(ctx context.Context, r ref, plain int64) (store.Draft, error) {
	if to, ok := c.to.(store.Drafter); ok {
		return to.Draft(ctx, r.name())
	}
	weight := min(bound(plain), inMemory)
	if err := c.room.Acquire(ctx, weight); err != nil {
		return nil, fmt.Errorf("copy %s: %w", r.name(), err)
	}
	b, _ := c.spare.Get().(*memory)
	b.Buffer.Reset()
	b.Grow(int(min(plain, expected)))
	return &held{b, c, r.name(), weight}, nil
}

// held is a draft in memory.
type held struct {
	*memory
	c      *copier
	name   string
	weight int64
}

func (h *held) Commit(ctx context.Context) (int64, error) {
	return int64(h.Len()), h.c.to.Put(ctx, h.name, h.Bytes())
}

func (h *held) Close() error {
	h.c.spare.Put(h.memory)
	h.c.room.Release(h.weight)
	return nil
}

// fetch gets the stored bytes of r, of which there are at most limit, and
// verifies that they are r's.
func (c *copier) fetch(ctx context.Context, r ref, limit int64, dst fetch.Sink) error {
	// Without compression, an object's plain bytes are those that are stored.
	want := codec.Expect{Hash: r.hash, Compression: object.None, Size: -1, Limit: limit}
	return fetch.Object(ctx, c.from, r.typ, want, dst)
}

// bound is more than any sane encoding of so many plain bytes takes.
func bound(plain int64) int64 { return plain + plain/4 + 64<<10 }
