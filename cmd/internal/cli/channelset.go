package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/reference/rollout"
)

// setFlags are those of rootstock channel set.
type setFlags struct {
	writeFlags
	cellQuery
	json   bool
	rings  []string
	soak   time.Duration
	haltOn []string

	promote, early, halt, resume, check bool
	reason                              string
}

func newChannelSet() *cobra.Command {
	var f setFlags
	cmd := &cobra.Command{
		Use:   "set KIND/NAME CHANNEL VERSION [--ring NAME=PERCENT%[,LABEL=VALUE]…]… | KIND/NAME CHANNEL --promote|--halt|--resume|--check",
		Short: "Point a channel to a version, in one new revision: at once, or ring by ring",
		Long: `Point a channel to a version. With --ring, only the cells in the first ring follow
to it, --promote opens the next ring, and after the last one the channel points
there for all. A cell decides by a hash of its id, and its labels, whether it is in
a ring; --ring early=25%,zone=z1 is a quarter of the cells that have that label.

--halt-on 'restarts>2x' names what is to stop the rollout. --promote and --check,
with --cells, ask the cells whether it holds, and then halt it (exit code 3).
Nothing else moves a rollout: cells only follow what is published.

--halt keeps it from going on and leaves the cells where they are; --resume lets it
go on; rootstock channel rollback takes it back.`,
		RunE: f.run,
	}
	fl := cmd.Flags()
	f.writeFlags.add(fl)
	f.cellQuery.add(fl)
	fl.BoolVar(&f.json, "json", false, "print one JSON object")
	fl.StringArrayVar(&f.rings, "ring", nil, "a ring of cells, such as canary=5%; may be repeated, the first is opened")
	fl.DurationVar(&f.soak, "soak", 0, "how long a ring is open at least before the next one may be")
	fl.StringArrayVar(&f.haltOn, "halt-on", nil, "a condition that stops the rollout, such as 'restarts>2x'")
	fl.BoolVar(&f.promote, "promote", false, "open the rollout's next ring, or end it after the last")
	fl.BoolVar(&f.early, "early", false, "promote although the ring soaks, or without asking cells")
	fl.BoolVar(&f.halt, "halt", false, "stop the rollout where it is")
	fl.StringVar(&f.reason, "reason", "", "why it is halted, for whoever asks")
	fl.BoolVar(&f.resume, "resume", false, "let a halted rollout go on")
	fl.BoolVar(&f.check, "check", false, "ask the cells, and halt the rollout if a condition holds")
	required(cmd, "store", "keys")
	return cmd
}

// steps are the flags that move a rollout on, of which one may be given.
func (f *setFlags) steps() (given int) {
	for _, b := range []bool{f.promote, f.halt, f.resume, f.check} {
		if b {
			given++
		}
	}
	return given
}

func (f *setFlags) run(cmd *cobra.Command, args []string) error {
	n := f.steps()
	want := []string{"KIND/NAME", "CHANNEL", "VERSION"}[:3-min(n, 1)]
	if err := exactArgs(want...)(cmd, args); err != nil {
		return err
	}
	plan, err := f.plan()
	switch {
	case err != nil:
		return misuse(cmd, "%w", err)
	case n > 1:
		return misuse(cmd, "one of --promote, --halt, --resume, --check at a time")
	case n == 1 && len(f.rings) > 0:
		return misuse(cmd, "--ring starts a rollout; --promote, --halt, --resume and --check are for one under way")
	case len(f.rings) == 0 && (f.soak != 0 || len(f.haltOn) > 0):
		return misuse(cmd, "--soak and --halt-on need --ring NAME=PERCENT%%")
	case f.early && !f.promote:
		return misuse(cmd, "--early goes with --promote")
	case f.reason != "" && !f.halt:
		return misuse(cmd, "--reason goes with --halt")
	case f.check && len(f.cells) == 0:
		return misuse(cmd, "--check asks the cells: name them with --cells FILE|URL")
	}
	ref, err := parseChannel(cmd, args[0], args[1])
	if err != nil {
		return err
	}
	if n == 0 {
		if err := ref.WithVersion(args[2]).Validate(); err != nil {
			return misuse(cmd, "%w", err)
		}
	}
	p, err := f.open(cmd.Context())
	if err != nil {
		return err
	}
	c, stopped, err := f.move(cmd, p, ref, args, plan)
	if err != nil || c == nil {
		return err
	}
	if err := printMove(cmd, ref, c, f.json); err != nil {
		return err
	}
	if stopped {
		return exitCode(exitAffected)
	}
	return nil
}

func (f *setFlags) plan() (plan publisher.Plan, err error) {
	for _, text := range f.rings {
		r, err := rollout.ParseRing(text)
		if err != nil {
			return plan, fmt.Errorf("--ring: %w", err)
		}
		plan.Rings = append(plan.Rings, r)
	}
	for _, text := range f.haltOn {
		c, err := rollout.ParseCondition(text)
		if err != nil {
			return plan, fmt.Errorf("--halt-on: %w", err)
		}
		plan.HaltOn = append(plan.HaltOn, c)
	}
	if plan.Soak = f.soak; f.soak < 0 {
		return plan, errors.New("--soak: a time such as 2h")
	}
	return plan, nil
}

// move does what the flags say. stopped tells that a condition halted the
// rollout. No change is one that was not called for.
func (f *setFlags) move(cmd *cobra.Command, p *publisher.Publisher, ref reference.Reference, args []string, plan publisher.Plan) (
	c *publisher.ChannelChange, stopped bool, err error,
) {
	ctx := cmd.Context()
	switch {
	case f.promote, f.check:
		why, err := f.stop(cmd, ref)
		if err != nil {
			return nil, false, err
		}
		if why != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "halted: %s\n", why)
			c, err = p.Halt(ctx, ref, why)
			return c, true, err
		}
		if f.check {
			return nil, false, nil
		}
		c, err = p.Promote(ctx, ref, f.early)
		return c, false, err
	case f.halt:
		c, err = p.Halt(ctx, ref, cmp.Or(f.reason, "by hand"))
	case f.resume:
		c, err = p.Unhalt(ctx, ref)
	case len(f.rings) > 0:
		c, err = p.StartRollout(ctx, ref, args[2], plan)
	default:
		c, err = p.SetChannel(ctx, ref, args[2])
	}
	return c, false, err
}

// stop asks the cells whether a condition of the rollout holds, and says which.
func (f *setFlags) stop(cmd *cobra.Command, ref reference.Reference) (why string, err error) {
	st, err := openStore(f.store)
	if err != nil {
		return "", err
	}
	all, err := publisher.Channels(cmd.Context(), st, f.temp)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(c publisher.Channel) bool { return c.Reference == ref })
	if i < 0 || all[i].Rollout == nil || all[i].Rollout.Halted != nil || f.early {
		return "", nil // the step itself says what is wrong
	}
	if len(f.cells) == 0 && len(all[i].Rollout.HaltOn) > 0 {
		return "", misuse(cmd, "the rollout is to halt on %s: name the cells to ask with --cells FILE|URL, or promote --early", all[i].Rollout.HaltOn[0])
	}
	known, err := f.ask(cmd, st)
	if err != nil || known == nil {
		return "", err
	}
	return known.progress(&all[i]).Stop(all[i].Rollout), nil
}
