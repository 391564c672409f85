package cache

import (
	"fmt"
	"slices"
)

// minRoom is what a full disk is relieved of at once, in bytes.
const minRoom = 16 << 20

// reserve announces size bytes that will be written and evicts down to the
// low-water mark if they would exceed the quota.
func (c *Cache) reserve(size int64) error {
	c.mu.Lock()
	c.reserved += size
	over := c.o.Quota > 0 && c.index.bytes+c.reserved > c.o.Quota
	goal := max(0, c.o.LowWater-c.reserved)
	c.mu.Unlock()
	if !over {
		return nil
	}
	if size > c.o.Quota {
		c.release(size)
		return c.broken(fmt.Errorf("%d bytes are more than the quota of %d", size, c.o.Quota))
	}
	c.evictTo(goal)
	return nil
}

func (c *Cache) release(size int64) {
	c.mu.Lock()
	c.reserved -= size
	c.mu.Unlock()
}

// makeRoom evicts if err says that the disk is full, and reports whether
// trying again makes sense.
func (c *Cache) makeRoom(err error, need int64) bool {
	return isFull(err) && c.Evict(max(2*need, minRoom)) > 0
}

// Evict frees at least n bytes, if there are as many, and returns how many it
// freed: least recently used first, pinned contents last.
func (c *Cache) Evict(n int64) int64 {
	c.mu.Lock()
	have := c.index.bytes
	c.mu.Unlock()
	return c.evictTo(max(0, have-n))
}

func (c *Cache) evictTo(goal int64) (freed int64) {
	defer func() {
		if freed > 0 {
			c.cleanups.add(c.o.Clock())
		}
	}()
	for _, pinnedToo := range []bool{false, true} {
		for {
			n := c.evictSome(goal, pinnedToo)
			if n == 0 {
				break
			}
			freed += n
		}
	}
	return freed
}

// evictBatch is how many contents go at once: few, so that others get at the
// disk in between.
const evictBatch = 64

func (c *Cache) evictSome(goal int64, pinnedToo bool) (freed int64) {
	var victims [evictBatch]entry
	chosen := victims[:0]
	c.disk.Lock()
	defer c.disk.Unlock()
	c.mu.Lock()
	left := c.index.len()
	for n := c.index.oldest(); left > 0 && len(chosen) < evictBatch && c.index.bytes > goal; left-- {
		newer := c.index.entries[n].newer
		if pinnedToo || !c.pinned(&c.index.entries[n]) {
			e := c.index.remove(n)
			chosen, freed = append(chosen, e), freed+e.size
		} else {
			// Pinned is used. The next batch, which may be soon, does not
			// have to walk past it again.
			c.index.touch(n)
		}
		n = newer
	}
	c.stats.Evictions += int64(len(chosen))
	c.mu.Unlock()
	for _, e := range chosen {
		c.unlinkAll(e)
	}
	return freed
}

func (c *Cache) pinned(e *entry) bool {
	return e.pins > 0 || c.held != nil && slices.ContainsFunc(c.index.idsOf(e), c.held)
}
