package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/object"
)

// Damaged is a content whose file was not what its name says, or was gone. It
// has been removed under all its names.
type Damaged struct {
	Sum   object.ContentID
	Size  int64 // bytes it should have
	Names []Key // all of them, the content's own included
}

// ScrubResult is what a scrub has seen.
type ScrubResult struct {
	Contents int
	Bytes    int64
	Damaged  int
}

// Scrub reads every content that is present when it begins, compares it with
// its digest and removes what is damaged, calling found for each. It reads at
// most rate bytes per second, or as fast as the disk if rate is 0. It changes
// nobody's place in the order of use.
//
// Lookups find damage, too, but those who have a file open or mapped, or read
// it past this process, are told by nobody else.
func (c *Cache) Scrub(ctx context.Context, rate int64, found func(Damaged)) (ScrubResult, error) {
	c.mu.Lock()
	sums := make([]object.ContentID, 0, c.index.len())
	for sum := range c.index.byContent {
		sums = append(sums, sum)
	}
	c.mu.Unlock()
	// By name is by directory, which is kinder to a disk than at random.
	slices.SortFunc(sums, func(a, b object.ContentID) int { return slices.Compare(a[:], b[:]) })
	pace := &pace{ctx: ctx, rate: rate, due: time.Now()}
	var result ScrubResult
	for _, sum := range sums {
		e, ok := c.peek(sum)
		if !ok {
			continue // evicted meanwhile
		}
		n, err := c.scrubOne(pace, e)
		c.mu.Lock()
		c.stats.Scrubbed += n
		c.mu.Unlock()
		result.Contents, result.Bytes = result.Contents+1, result.Bytes+n
		switch {
		case ctx.Err() != nil:
			return result, context.Cause(ctx)
		case err == nil:
			continue
		}
		if e, ok := c.peek(sum); ok {
			c.discard(sum)
			result.Damaged++
			found(Damaged{Sum: sum, Size: e.size, Names: append(slices.Clone(e.names), Content(sum))})
		}
	}
	return result, nil
}

func (c *Cache) peek(sum object.ContentID) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.index.find(Content(sum))
}

// scrubOne reads a content; an error other than the context's means that it is
// damaged. n is how many bytes were read.
func (c *Cache) scrubOne(p *pace, e entry) (n int64, err error) {
	f, err := os.Open(filepath.Join(c.dir, e.sum.CachePath()))
	if err != nil {
		return 0, fmt.Errorf("scrub %s: %w", e.sum, err)
	}
	defer f.Close() //nolint:errcheck // read only
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("scrub %s: %w", e.sum, err)
	}
	p.r, p.n = f, 0
	if err := verify(p.ctx, p, e.sum); err != nil {
		return p.n, err
	}
	// Touched perhaps, but right: what is seen now is what it is.
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.index.byContent[e.sum]; ok && st.Size == c.index.entries[at].size {
		c.index.entries[at].file, c.index.entries[at].checked = fileOf(&st), true
	}
	return p.n, nil
}

// pace reads no faster than rate bytes per second over all files.
type pace struct {
	ctx  context.Context
	rate int64
	due  time.Time // when what was read so far may have been
	r    io.Reader
	n    int64 // bytes of this file
}

func (p *pace) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	if p.rate <= 0 || n == 0 {
		return n, err
	}
	// An idle time is not made up for.
	if now := time.Now(); p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	select {
	case <-time.After(time.Until(p.due)):
	case <-p.ctx.Done():
		return n, errors.Join(err, p.ctx.Err())
	}
	return n, err
}

// Changed reports whether the file of a content that is present is no longer
// the one that was verified, without reading it. Whoever has it mapped asks
// this from time to time. What has changed is removed.
func (c *Cache) Changed(k Key) bool {
	c.mu.Lock()
	e, ok := c.index.find(k)
	c.mu.Unlock()
	if !ok {
		return false
	}
	var st unix.Stat_t
	err := unix.Lstat(filepath.Join(c.dir, e.sum.CachePath()), &st)
	if err == nil && st.Size == e.size && st.Ino == e.file.ino && st.Mtim.Nano() == e.file.mtime {
		return false
	}
	if now, ok := c.peek(e.sum); !ok || now.file != e.file {
		return false // evicted, or given another name, at this moment
	}
	c.discard(e.sum)
	return true
}
