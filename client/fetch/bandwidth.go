package fetch

import (
	"context"
	"io"
	"sync"
	"time"
)

// Bandwidth lets only so many bytes per second be received, by all who share
// it. A nil pointer sets no limit.
type Bandwidth struct {
	perSecond int64

	mu   sync.Mutex
	free time.Time // when all that was taken has been paid for
}

// bandwidthBurst is how much may be taken at once after a pause.
const bandwidthBurst = 50 * time.Millisecond

// NewBandwidth limits to that many bytes per second; nil for 0.
func NewBandwidth(perSecond int64) *Bandwidth {
	if perSecond <= 0 {
		return nil
	}
	return &Bandwidth{perSecond: perSecond}
}

// owe takes n bytes and returns how long to wait for them.
func (b *Bandwidth) owe(n int, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if earliest := now.Add(-bandwidthBurst); b.free.Before(earliest) {
		b.free = earliest
	}
	b.free = b.free.Add(time.Duration(float64(n) / float64(b.perSecond) * float64(time.Second)))
	return b.free.Sub(now)
}

// reader slows a body down. What it does not read, the server does not send.
func (b *Bandwidth) reader(ctx context.Context, body io.ReadCloser) io.ReadCloser {
	if b == nil {
		return body
	}
	return &slowed{body, ctx, b}
}

type slowed struct {
	io.ReadCloser
	ctx context.Context //nolint:containedctx // of the request
	b   *Bandwidth
}

func (s *slowed) ETag() string { return ETag(s.ReadCloser) }

func (s *slowed) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	wait := s.b.owe(n, time.Now())
	if wait <= 0 {
		return n, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return n, err
	case <-s.ctx.Done():
		return n, context.Cause(s.ctx)
	}
}
