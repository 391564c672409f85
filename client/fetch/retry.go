package fetch

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"
)

// Retry repeats what failed temporarily on the same way to the same server.
type Retry struct {
	Inner Fetcher
	// Retries is how often, after the first try (CVMFS_MAX_RETRIES).
	Retries int
	// Init and Max bound the pause: between half and one and a half times
	// Init before the first retry, doubling up to Max. 100 ms and 10 s.
	Init, Max time.Duration
}

// Fetch tries until something other than a temporary failure comes back.
func (r *Retry) Fetch(ctx context.Context, path string, o Options) (io.ReadCloser, error) {
	pause, limit := r.Init, r.Max
	if pause <= 0 {
		pause = 100 * time.Millisecond
	}
	if limit <= 0 {
		limit = 10 * time.Second
	}
	for n := 0; ; n++ {
		body, err := r.Inner.Fetch(ctx, path, o)
		var e *Error
		if err == nil || n >= r.Retries || !errors.As(err, &e) || !e.Temporary {
			return body, err
		}
		jittered := pause/2 + rand.N(pause) // #nosec G404 -- spreads load, guards nothing
		select {
		case <-time.After(jittered):
		case <-ctx.Done():
			return nil, err
		}
		pause = min(2*pause, limit)
	}
}

// Limit lets only so many requests be open at a time, bodies included.
type Limit struct {
	inner Fetcher
	slots chan struct{}
}

// NewLimit allows n requests at a time.
func NewLimit(inner Fetcher, n int) *Limit {
	return &Limit{inner: inner, slots: make(chan struct{}, n)}
}

// Alternatives is the inner Fetcher's.
func (l *Limit) Alternatives() int { return alternatives(l.inner) }

// Fetch waits for its turn or for the context to end.
func (l *Limit) Fetch(ctx context.Context, path string, o Options) (io.ReadCloser, error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	body, err := l.inner.Fetch(ctx, path, o)
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotted{ReadCloser: body, slots: l.slots}, nil
}

type slotted struct {
	io.ReadCloser
	slots chan struct{}
	given bool
}

func (s *slotted) ETag() string { return ETag(s.ReadCloser) }

func (s *slotted) Close() error {
	if !s.given {
		s.given = true
		<-s.slots
	}
	return s.ReadCloser.Close()
}
