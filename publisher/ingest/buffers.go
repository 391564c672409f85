package ingest

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

// buffers lends memory in sizes of powers of two and never has more than limit
// bytes lent or kept. A buffer larger than that is lent when nothing else is.
type buffers struct {
	limit  int64
	lent   *semaphore.Weighted
	mu     sync.Mutex
	free   [64][][]byte // by size class
	pooled int64        // bytes in free
	out    int64        // bytes lent
}

const minClass = 12 // 4 KiB

func newBuffers(limit int64) *buffers {
	return &buffers{limit: limit, lent: semaphore.NewWeighted(limit)}
}

// class returns the size class that holds n bytes.
func class(n int) int {
	if n <= 1<<minClass {
		return minClass
	}
	return bits.Len(uint(n - 1)) // #nosec G115 -- not negative
}

// get waits until n bytes may be lent. It returns ctx's error if that ends
// first. Whoever holds a buffer while waiting for another must be the only one
// that does.
func (p *buffers) get(ctx context.Context, n int) ([]byte, error) {
	c := class(n)
	if err := p.lent.Acquire(ctx, p.weight(1<<c)); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out += 1 << c
	if last := len(p.free[c]) - 1; last >= 0 {
		b := p.free[c][last]
		p.free[c] = p.free[c][:last]
		p.pooled -= 1 << c
		return b[:n], nil
	}
	for i := len(p.free) - 1; i >= minClass && p.out+p.pooled > p.limit; i-- {
		for last := len(p.free[i]) - 1; last >= 0 && p.out+p.pooled > p.limit; last-- {
			p.free[i][last] = nil
			p.free[i] = p.free[i][:last]
			p.pooled -= 1 << i
		}
	}
	return make([]byte, n, 1<<c), nil
}

// put takes back what get lent.
func (p *buffers) put(b []byte) {
	c := class(cap(b))
	p.mu.Lock()
	p.out -= 1 << c
	if p.out+p.pooled+1<<c <= p.limit {
		p.free[c] = append(p.free[c], b)
		p.pooled += 1 << c
	}
	p.mu.Unlock()
	p.lent.Release(p.weight(1 << c))
}

func (p *buffers) weight(n int64) int64 { return min(n, p.limit) }
