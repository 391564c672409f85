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

// inMemory bounds the stored bytes of objects under way. One that is larger
// goes alone.
const inMemory = 256 << 20

// expected is how many bytes of an object memory is made for before they come;
// chunks are no larger, but for those that somebody else cut.
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
	copied func(bytes int)

	mu     sync.Mutex
	flying map[ref]*flight
	spare  sync.Pool // of *memory
}

type flight struct {
	done chan struct{}
	err  error
}

func newCopier(from fetch.Fetcher, to store.Store, copied func(int)) *copier {
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
	weight := min(bound(plain), inMemory)
	if err := c.room.Acquire(ctx, weight); err != nil {
		return fmt.Errorf("copy %s: %w", r.name(), err)
	}
	defer c.room.Release(weight)
	b, _ := c.spare.Get().(*memory)
	defer c.spare.Put(b)
	b.Buffer.Reset()
	b.Grow(int(min(plain, expected)))
	if err := c.fetch(ctx, r, bound(plain), b); err != nil {
		return err
	}
	return c.put(ctx, r, b.Bytes())
}

// fetch gets the stored bytes of r, of which there are at most limit, and
// verifies that they are r's.
func (c *copier) fetch(ctx context.Context, r ref, limit int64, b *memory) error {
	b.Buffer.Reset()
	// Without compression, an object's plain bytes are those that are stored.
	want := codec.Expect{Hash: r.hash, Compression: object.None, Size: -1, Limit: limit}
	return fetch.Object(ctx, c.from, r.typ, want, b)
}

func (c *copier) put(ctx context.Context, r ref, stored []byte) error {
	if err := c.to.Put(ctx, r.name(), stored); err != nil {
		return err
	}
	c.copied(len(stored))
	return nil
}

// bound is more than any sane encoding of so many plain bytes takes.
func bound(plain int64) int64 { return plain + plain/4 + 64<<10 }
