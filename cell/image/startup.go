package image

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/object"
)

const (
	// aheadAtOnce is how many contents of a profile are fetched at a time.
	aheadAtOnce = 4
	// startupLead is how long a tree that is ready otherwise waits for its
	// startup pack. What is there before the container looks is read natively
	// by it for good; what comes later it may have opened through us.
	startupLead = 50 * time.Millisecond
)

// startup is what is done for a tree that this cell has never shown.
type startup struct {
	unpacked chan struct{} // closed once the pack is, or there is none
}

// begin fetches what containers on x opened elsewhere: the startup pack while the
// tree is made ready, and when table says that its contents can be found, what is
// in the pack and what it names at the same time. x's work is held.
func (t *Tier) begin(r *client.Repository, x *tree, table func() error) {
	s := &startup{unpacked: make(chan struct{})}
	x.startup = s
	t.background(func(ctx context.Context) {
		err := t.contents.Startup(ctx, r, x.id, table, func(ids []object.ContentID) {
			t.background(func(ctx context.Context) { t.fetchAhead(ctx, ids) })
		})
		close(s.unpacked)
		if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) && table() == nil {
			t.o.Log.Warn("startup pack not used", "tree", x.id.String(), "error", err)
		}
	})
}

// fetchAhead fetches contents in order. What fails is fetched when it is read,
// and whoever reads it is told.
func (t *Tier) fetchAhead(ctx context.Context, order []object.ContentID) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(aheadAtOnce)
	for _, id := range order {
		g.Go(func() error {
			before := time.Now()
			err := t.contents.Fetch(ctx, id, func(int64) error { return ctx.Err() })
			if err != nil {
				t.o.Log.Debug("content of a startup profile not fetched", "content", id.String(), "after", time.Since(before), "error", err)
			}
			return ctx.Err()
		})
	}
	_ = g.Wait() // the context's
}

// lead waits for x's startup pack, for a moment at most.
func (t *Tier) lead(ctx context.Context, x *tree) {
	x.lock()
	s := x.startup
	x.unlock()
	if s == nil {
		return
	}
	timer := time.NewTimer(startupLead)
	defer timer.Stop()
	select {
	case <-s.unpacked:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// background runs f until the tier is closed.
func (t *Tier) background(f func(ctx context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() == nil {
		t.work.Go(func() { f(t.ctx) })
	}
}
