package image

import (
	"context"
	"errors"
	"time"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

// Filling brings the rest of each tree in use into the cache, so that the kernel
// needs us for nothing. Nobody waits for it: it begins when a tree has been in
// use for a while, keeps to a bandwidth, and stands back from those who wait.
const (
	fillBatch    = 256 // contents looked up at a time
	fillFailures = 8   // in a row, after which a tree rests until the next round
	quietTime    = 200 * time.Millisecond
	quietLook    = 20 * time.Millisecond
)

// filler is the state of the filling.
type filler struct {
	t *Tier

	next     time.Time // when the bandwidth is free again
	requests uint64    // of the objects mount, at the last look
	changed  time.Time // when they last were others
}

// fill works until ctx is done.
func (t *Tier) fill(ctx context.Context) {
	f := &filler{t: t}
	said := false
	for {
		err := f.round(ctx)
		if err != nil && ctx.Err() == nil && !said {
			said = true
			t.o.Log.Warn("trees in use are not filled; trying again", "error", err)
		}
		if err == nil {
			said = false
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(t.o.FillPause):
		}
	}
}

// round goes once through all trees in use and returns the first error.
func (f *filler) round(ctx context.Context) (err error) {
	for r, trees := range f.t.lacking() {
		for _, x := range trees {
			if time.Since(x.since) < f.t.o.FillDelay {
				continue
			}
			if ferr := f.fill(ctx, r, x); err == nil {
				err = ferr
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return err
}

func (f *filler) fill(ctx context.Context, r *client.Repository, x *tree) (err error) {
	failures := 0
	for from := 0; from >= 0; {
		var ids []object.ContentID
		ids, from = f.t.contents.Lacking(r, x.id, from, fillBatch)
		for _, id := range ids {
			ferr := f.t.contents.Fetch(ctx, id, func(n int64) error { return f.pace(ctx, n) })
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(ferr, errNoRoom), errors.Is(ferr, cache.ErrCannotStore):
				return nil // what is there is worth as much
			case ferr == nil:
				failures = 0
				continue
			}
			if err == nil {
				err = ferr
			}
			if failures++; failures >= fillFailures {
				return err
			}
		}
	}
	return err
}

var errNoRoom = errors.New("the cache has no room to fill trees")

// pace waits until n bytes may be fetched.
func (f *filler) pace(ctx context.Context, n int64) error {
	if s := f.t.o.Cache.Stats(); s.Quota > 0 && s.Bytes+n > s.Quota-s.Quota/10 {
		return errNoRoom
	}
	if err := f.standBack(ctx); err != nil {
		return err
	}
	if wait := time.Until(f.next); wait > 0 {
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
	now := time.Now()
	f.next = now.Add(time.Duration(float64(n) / float64(f.t.o.FillRate) * float64(time.Second)))
	return nil
}

// standBack waits while somebody is served, but not for ever: a cell that is
// never idle is filled slowly.
func (f *filler) standBack(ctx context.Context) error {
	for begin := time.Now(); time.Since(begin) < f.t.o.FillPatience; {
		requests, _ := f.t.store.stats()
		now := time.Now()
		if requests != f.requests {
			f.requests, f.changed = requests, now
		}
		if f.t.waiting.Load() == 0 && now.Sub(f.changed) >= quietTime {
			return nil
		}
		if err := sleep(ctx, quietLook); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
