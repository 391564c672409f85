package demand

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

// Run publishes what waits until ctx is done: all that waits in one revision,
// and no two revisions within the time of Options.Every.
func (q *Queue) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		if q.batch(ctx) {
			q.signal()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(q.o.Every):
		}
	}
}

// batch publishes what waits and reports whether something is left to do.
func (q *Queue) batch(ctx context.Context) (left bool) {
	ids, steps, more := q.take()
	if len(ids) == 0 {
		return false
	}
	p, err := q.o.Open(ctx)
	var all []publisher.Outcome
	var rev uint64
	if err == nil {
		all, rev, err = p.Apply(ctx, fmt.Sprintf("publish %d images on demand", len(ids)), steps, nil)
	}
	if err != nil {
		// Nobody's image is at fault: all of them wait on.
		q.giveBack(ids)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, store.ErrConflict):
			q.o.Log.Info("publishing on demand waits for another publisher", "images", len(ids), "reason", err.Error())
		default:
			q.o.Log.Error("publishing on demand failed; trying again", "images", len(ids), "error", err.Error())
		}
		return true
	}
	q.finish(ids, all, rev)
	return more
}

// take marks what waits as running.
func (q *Queue) take() (ids []string, steps []publisher.Step, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range q.order {
		e := q.entries[id]
		if e.State != Waiting {
			continue
		}
		if len(ids) == together {
			return ids, steps, true
		}
		e.State = Running
		ids, steps = append(ids, id), append(steps, q.step(e.Image))
	}
	return ids, steps, false
}

func (q *Queue) step(image string) publisher.Step {
	return &publisher.Put{Name: image, Kind: reference.Images, Open: func(ctx context.Context) (publisher.Job, error) {
		src, err := source.OpenImage(ctx, "docker://"+image, q.o.Source)
		if err != nil {
			return publisher.Job{}, err
		}
		ref, err := publisher.ImageReference(src, "")
		if err == nil && !q.o.Allowed.covers(ref.Name) { // docker.io/x is docker.io/library/x
			err = fmt.Errorf("%s is %w", ref, ErrDenied)
		}
		if err != nil {
			return publisher.Job{}, errors.Join(err, src.Close())
		}
		return publisher.Job{Reference: ref, Source: src}, nil
	}}
}

func (q *Queue) giveBack(ids []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		q.entries[id].State = Waiting
	}
}

func (q *Queue) finish(ids []string, all []publisher.Outcome, rev uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.o.Now().UTC()
	for i, id := range ids {
		e, o := q.entries[id], &all[i]
		e.Finished = &now
		if o.Err != nil {
			e.State, e.Error = Failed, o.Err.Error()
			q.o.Log.Warn("an image that was asked for could not be published", "image", e.Image, "error", e.Error)
			continue
		}
		e.State, e.Tree, e.Path, e.Revision = Published, o.Result.Tree, o.Result.Path, rev
	}
	if err := q.save(); err != nil {
		// The file still has them waiting: they are asked for once more after a
		// restart, and found to be there.
		q.o.Log.Error("the queue could not be written", "error", err.Error())
	}
}
