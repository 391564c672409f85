package cli

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference/rollout"
	"github.com/rootstock-cf/rootstock/store"
)

// cellQuery are the flags of commands that may ask cells how a rollout goes.
type cellQuery struct {
	cellFlags
	cells []string
}

func (q *cellQuery) add(p *pflag.FlagSet) {
	p.StringSliceVar(&q.cells, "cells", nil, "file or URL of cells, to ask how a rollout goes; may be repeated")
	q.cellFlags.add(p, "cells-")
}

// answers are what cells say, of the repository of that name.
type answers struct {
	repository string
	cells      []fleet.Cell
}

// ask asks the cells, and names those that are silent on standard error. nil
// is the answer if there are none to ask.
func (q *cellQuery) ask(cmd *cobra.Command, st store.Getter) (*answers, error) {
	if len(q.cells) == 0 {
		return nil, nil
	}
	asker, err := q.asker()
	if err != nil {
		return nil, err
	}
	name, err := publisher.RepositoryName(cmd.Context(), st)
	if err != nil {
		return nil, err
	}
	a := &answers{name, asker.Ask(cmd.Context(), q.cells)}
	for i := range a.cells {
		if err := a.cells[i].Incomplete(); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "cell %s did not answer: %s\n", shown(a.cells[i].Name), shown(err.Error()))
		}
	}
	return a, nil
}

// progress is how far a channel's rollout is; nil if there is none, or nobody
// was asked.
func (a *answers) progress(c *publisher.Channel) *fleet.Progress {
	if a == nil || c.Rollout == nil {
		return nil
	}
	ref := c.Reference
	ref.Repository = a.repository
	p := fleet.ProgressOf(a.cells, ref, c.Rollout)
	return &p
}

// rolloutText says in a line where a rollout stands.
func rolloutText(s *rollout.State) string {
	text := fmt.Sprintf("%s goes to ring %s", shown(s.Version), s.Rings[s.Open-1])
	if s.Open > 1 {
		text = fmt.Sprintf("%s goes to the first %d rings, last %s", shown(s.Version), s.Open, s.Rings[s.Open-1])
	}
	if s.Halted != nil {
		text += ", and is halted: " + shown(s.Halted.Reason)
	}
	return text
}

// printRollout says where a rollout stands, by what cells say if any were asked,
// and what the next step would be.
func printRollout(out io.Writer, c *publisher.Channel, p *fleet.Progress) {
	s := c.Rollout
	fmt.Fprintf(out, "\n%s: %s is rolled out since %s (tree %.12s)\n", c.Reference, shown(s.Version), s.Began.UTC().Format(time.RFC3339), s.Tree)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for i, r := range s.Rings {
		state := "closed"
		if i < s.Open {
			state = "open"
		}
		fmt.Fprintf(w, "  ring %s\t%s%s\n", r, state, cellsIn(p, i))
	}
	fmt.Fprintf(w, "  all others\tclosed%s\n", cellsIn(p, len(s.Rings)))
	w.Flush() //nolint:errcheck // as of all that is printed, out says so
	if p != nil {
		fmt.Fprintf(out, "  %d cells: %d in open rings, %d of them have not seen it yet, %d know no rings\n", p.Cells, p.In, p.Lagging, p.Unknowing)
		for _, side := range []struct {
			version string
			fleet.Side
		}{{s.Version, p.New}, {c.Version, p.Old}} {
			fmt.Fprintf(out, "  on %s: %d containers run, %d ended, %.3g per container and hour\n", shown(side.version), side.Containers, side.Ended, side.PerHour())
		}
	}
	fmt.Fprintf(out, "  next: %s\n", nextStep(s, p))
}

// cellsIn counts the cells that a ring adds to those before it.
func cellsIn(p *fleet.Progress, ring int) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("\t%d cells", p.Rings[ring])
}

// nextStep says what would happen.
func nextStep(s *rollout.State, p *fleet.Progress) string {
	if s.Halted != nil {
		return fmt.Sprintf("nothing: it is halted since %s: %s; --resume or rollback", s.Halted.When.UTC().Format(time.RFC3339), shown(s.Halted.Reason))
	}
	if p != nil {
		if why := p.Stop(s); why != "" {
			return "--promote or --check halts it: " + why
		}
	}
	text := "--promote ends the rollout: all cells follow"
	if s.Open < len(s.Rings) {
		text = "--promote opens ring " + s.Rings[s.Open].String()
	}
	if p != nil {
		text += fmt.Sprintf(", %d cells more", p.Joining)
	}
	if s.Soak > 0 {
		text += ", from " + s.Due().UTC().Format(time.RFC3339)
	}
	for _, c := range s.HaltOn {
		text += ", unless " + c.String()
	}
	return text
}
