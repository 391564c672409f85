package publisher

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/reference/rollout"
)

var (
	// ErrNoRollout reports a step of a rollout where none is under way.
	ErrNoRollout = errors.New("no rollout is under way")
	// ErrHalted reports a rollout that was stopped.
	ErrHalted = errors.New("halted")
	// ErrTooEarly reports a ring that has not been open for as long as it
	// is to be.
	ErrTooEarly = errors.New("too early")
)

// Plan is how a channel is to move to another version.
type Plan struct {
	Rings  []rollout.Ring // the last step, all cells, is not among them
	Soak   time.Duration  // how long each ring stays at least, in whole seconds
	HaltOn []rollout.Condition
}

// StartRollout opens the plan's first ring: the cells in it follow the channel
// to version, all others stay with what its link points to. The channel has to
// be there. A rollout under way is replaced by this one.
func (p *Publisher) StartRollout(ctx context.Context, ref reference.Reference, version string, plan Plan) (*ChannelChange, error) {
	return p.moveChannel(ctx, fmt.Sprintf("roll out %s to %s", ref, version), ref,
		func(ctx context.Context, v *view, now *Channel) (move, error) {
			if now == nil {
				return move{}, fmt.Errorf("the channel is %w, so there is no version for the other cells; set it without rings first", ErrNotFound)
			}
			t, err := v.resolve(ctx, ref.WithVersion(version))
			if err != nil {
				return move{}, err
			}
			if t.Path == now.at.Path {
				return move{}, fmt.Errorf("the channel points to %s already; there is nothing to roll out", version)
			}
			name, _ := ref.RepositoryPath()
			s := &rollout.State{
				Format: rollout.Format, Version: version, Tree: t.Tree, Target: relative(name, t.Path),
				Seed:  ref.String() + "@" + t.Tree,
				Began: p.now(), Opened: p.now(), Rings: plan.Rings, Open: 1, Soak: int64(plan.Soak / time.Second), HaltOn: plan.HaltOn,
			}
			if len(s.Seed) > rollout.MaxText {
				s.Seed = t.Tree
			}
			return move{stay: true, rollout: s}, s.Check()
		})
}

// Promote opens the rollout's next ring. After the last one the channel itself
// points to the new version, and the rollout is over. Early opens it before the
// last ring has been open for its time; otherwise that is [ErrTooEarly]. A
// rollout that was halted is [ErrHalted] in any case.
func (p *Publisher) Promote(ctx context.Context, ref reference.Reference, early bool) (*ChannelChange, error) {
	return p.step(ctx, "promote "+ref.String(), ref, func(ctx context.Context, v *view, now *Channel, s *rollout.State) (move, error) {
		if s.Halted != nil {
			return move{}, fmt.Errorf("it is %w since %s: %s; --resume lets it go on, rootstock channel rollback takes it back",
				ErrHalted, s.Halted.When.Format(time.RFC3339), s.Halted.Reason)
		}
		if due := s.Due(); p.now().Before(due) && !early {
			return move{}, fmt.Errorf("%w: ring %s soaks until %s; --early promotes all the same", ErrTooEarly, s.Rings[s.Open-1].Name, due.Format(time.RFC3339))
		}
		if s.Open < len(s.Rings) {
			s.Open++
			s.Opened = p.now()
			return move{stay: true, rollout: s}, nil
		}
		at := path.Join(ref.ChannelsDir(), s.Target)
		e, ok, err := v.tx.Lookup(ctx, at)
		if err != nil {
			return move{}, err
		}
		t, there := listedAt(ref.WithVersion(s.Version), at, &e)
		if !ok || !there || t.Tree != s.Tree {
			return move{}, fmt.Errorf("%s is not at %s any more: %w; rootstock channel rollback ends the rollout", s.Version, at, ErrNotFound)
		}
		return move{to: t, past: now.history()}, nil
	})
}

// Halt keeps a rollout from going on. Cells in open rings stay there. One that
// is halted already keeps its reason.
func (p *Publisher) Halt(ctx context.Context, ref reference.Reference, reason string) (*ChannelChange, error) {
	return p.step(ctx, "halt "+ref.String(), ref, func(_ context.Context, _ *view, _ *Channel, s *rollout.State) (move, error) {
		if s.Halted != nil {
			return move{nothing: true, rollout: s}, nil
		}
		s.Halted = &rollout.Halt{When: p.now(), Reason: reason}
		return move{stay: true, rollout: s}, nil
	})
}

// Unhalt lets a halted rollout go on; its last ring soaks anew.
func (p *Publisher) Unhalt(ctx context.Context, ref reference.Reference) (*ChannelChange, error) {
	return p.step(ctx, "resume "+ref.String(), ref, func(_ context.Context, _ *view, _ *Channel, s *rollout.State) (move, error) {
		if s.Halted == nil {
			return move{nothing: true, rollout: s}, nil
		}
		s.Halted, s.Opened = nil, p.now()
		return move{stay: true, rollout: s}, nil
	})
}

// step changes the rollout of a channel that has one.
func (p *Publisher) step(ctx context.Context, what string, ref reference.Reference,
	do func(ctx context.Context, v *view, now *Channel, s *rollout.State) (move, error),
) (*ChannelChange, error) {
	return p.moveChannel(ctx, what, ref, func(ctx context.Context, v *view, now *Channel) (move, error) {
		switch {
		case now == nil:
			return move{}, fmt.Errorf("the channel is %w; rootstock channel status shows those that are", ErrNotFound)
		case now.Rollout == nil:
			return move{}, fmt.Errorf("%w; rootstock channel set with --ring starts one", ErrNoRollout)
		}
		s := *now.Rollout
		return do(ctx, v, now, &s)
	})
}

// rolloutPath is where the tree lies that a rollout leads to; "" without one.
func (c *Channel) rolloutPath() string {
	if c.Rollout == nil {
		return ""
	}
	return path.Join(c.Reference.ChannelsDir(), c.Rollout.Target)
}
