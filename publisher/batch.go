package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

// Step is one change of a batch: a [Put], a [Point] or a [Keep].
type Step interface {
	// String says what the step is about.
	String() string
	apply(ctx context.Context, b *batch) Outcome
}

// Outcome says what a step came to. Of an error nothing is left in the
// repository, and the other steps are carried out all the same.
type Outcome struct {
	Step    Step
	Changed bool // or would have, of a dry run
	Err     error

	Result  *Result        // of a Put
	Channel *ChannelChange // of a Point
	Removed []Removed      // of a Keep
}

// batch is steps being carried out on top of one revision.
type batch struct {
	p   *Publisher
	h   *head
	tx  *revision.Tx
	dry bool
	// wanted are the trees that Puts name, which a Keep leaves alone;
	// planned those that a dry run would have put.
	wanted  map[reference.Reference]bool
	planned []Listed
	// The steps before from are done already, in an earlier revision; next is
	// where to go on, after another publisher had its turn.
	from, next int
	// unsure are the kinds a Put of which failed before it could say its
	// name: a Keep could take what the Put means.
	unsure map[reference.Kind]bool
}

func (b *batch) view() *view { return &view{st: b.p.o.Store, tx: b.tx} }

// halfDoneError is what went wrong after a step had begun to change the
// transaction, which is then worth nothing.
type halfDoneError struct{ err error }

func (e *halfDoneError) Error() string { return e.err.Error() }
func (e *halfDoneError) Unwrap() error { return e.err }

func halfDone(err error) error {
	if err == nil {
		return nil
	}
	return &halfDoneError{err}
}

// errAgain makes an edit end without a revision, to be begun again.
var errAgain = errors.New("a step failed half-way")

// Apply carries out steps in their order and makes one revision of all that
// changed, or none if nothing did. A step that fails has its error in its
// outcome; done, if not nil, is told of each outcome as it is known, of one that
// had to be carried out anew more than once. Apply itself returns an error if
// there is no revision for a reason that is no step's. What says in a few words
// what is done.
//
// The repository is locked for as long as that takes: sources are opened one
// after the other, and closed. Where the store is a [store.Sharer], others who
// wait for the lock get it between two Puts, and what is done so far is a
// revision of its own.
func (p *Publisher) Apply(ctx context.Context, what string, steps []Step, done func(i int, o Outcome)) ([]Outcome, uint64, error) {
	all := make([]Outcome, len(steps))
	if s, ok := p.o.Store.(store.Sharer); ok {
		end, err := s.Share(ctx)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", what, err)
		}
		defer end() //nolint:errcheck // it ends with the process at the latest
	}
	for from := 0; ; {
		b := &batch{p: p, from: from}
		rev, err := p.edit(ctx, what, func(ctx context.Context, h *head, tx *revision.Tx) (bool, error) {
			b.h, b.tx = h, tx
			return b.run(ctx, steps, all, done)
		})
		if errors.Is(err, errAgain) {
			continue // without the step that failed: there are fewer each time
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", what, err)
		}
		number(all[from:b.next], rev)
		if from = b.next; from == len(steps) {
			return all, rev, nil
		}
		if err := p.giveWay(ctx); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", what, err)
		}
	}
}

// awaited reports whether another publisher waits for the lock.
func (p *Publisher) awaited(ctx context.Context) (bool, error) {
	s, ok := p.o.Store.(store.Sharer)
	if !ok {
		return false, nil
	}
	return s.Awaited(ctx)
}

// giveWay returns when nobody waits for the lock any more: those who did have
// it, or had it.
func (p *Publisher) giveWay(ctx context.Context) error {
	for {
		if awaited, err := p.awaited(ctx); err != nil || !awaited {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Rehearse says what Apply would do, and changes nothing. Sources are opened
// and not read: whether the content of a version that is there is the same is
// known of images, and of files that were published before and have not
// changed.
func (p *Publisher) Rehearse(ctx context.Context, steps []Step, done func(i int, o Outcome)) ([]Outcome, uint64, error) {
	h, err := p.head(ctx)
	if err != nil {
		return nil, 0, err
	}
	tx, err := p.begin(ctx, h)
	if err != nil {
		return nil, 0, err
	}
	defer tx.Close()
	all := make([]Outcome, len(steps))
	if _, err := (&batch{p: p, h: h, tx: tx, dry: true}).run(ctx, steps, all, done); err != nil {
		return nil, 0, err
	}
	number(all, h.manifest.Revision)
	return all, h.manifest.Revision, nil
}

// run carries out the steps that have not failed yet, from b.from to b.next.
func (b *batch) run(ctx context.Context, steps []Step, all []Outcome, done func(i int, o Outcome)) (changed bool, err error) {
	b.wanted, b.unsure = map[reference.Reference]bool{}, map[reference.Kind]bool{}
	for i, s := range steps {
		put, isPut := s.(*Put)
		if i < b.from || all[i].Err != nil {
			switch {
			case isPut && all[i].Err == nil:
				b.wanted[all[i].Result.Reference] = true
			case isPut:
				put.want(b, nil)
			}
			continue
		}
		if isPut && i > b.from {
			awaited, err := b.p.awaited(ctx)
			if err != nil {
				return false, err
			}
			if awaited {
				b.next = i
				return changed, nil
			}
		}
		all[i] = s.apply(ctx, b)
		all[i].Step = s
		if err := ctx.Err(); err != nil {
			return false, context.Cause(ctx)
		}
		if errors.Is(all[i].Err, store.ErrConflict) {
			return false, all[i].Err
		}
		if done != nil {
			done(i, all[i])
		}
		var half *halfDoneError
		if errors.As(all[i].Err, &half) {
			return false, errAgain
		}
		changed = changed || all[i].Changed && all[i].Err == nil
	}
	b.next = len(steps)
	return changed, nil
}

// number tells the outcomes which revision has them.
func number(all []Outcome, rev uint64) {
	for i := range all {
		o := &all[i]
		if o.Err != nil {
			continue
		}
		if o.Result != nil {
			o.Result.Revision = rev
		}
		if o.Channel != nil {
			o.Channel.Revision = rev
		}
		for j := range o.Removed {
			o.Removed[j].Revision = rev
		}
	}
}
