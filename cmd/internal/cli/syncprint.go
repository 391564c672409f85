package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
)

// failedLine is an entry of a list that failed.
type failedLine struct {
	Step  string `json:"step"`
	Error string `json:"error"`
}

// syncSummary is the last line of `rootstock sync --json`.
type syncSummary struct {
	Repository string `json:"repository"`
	Revision   uint64 `json:"revision"`
	DryRun     bool   `json:"dry_run"`
	Published  int    `json:"published"`
	Unchanged  int    `json:"unchanged"`
	Moved      int    `json:"channels_moved"`
	Removed    int    `json:"removed"`
	Failed     int    `json:"failed"`
}

// syncReport prints what a run came to, and counts.
type syncReport struct {
	f   *syncFlags
	cmd *cobra.Command
	sum syncSummary
}

func (r *syncReport) outcome(o *publisher.Outcome) error {
	switch {
	case o.Err != nil:
		r.sum.Failed++
		if r.f.json {
			return typed(r.cmd.OutOrStdout(), "failed", failedLine{o.Step.String(), o.Err.Error()})
		}
		fmt.Fprintf(r.cmd.ErrOrStderr(), "%s: %v\n", o.Step, o.Err)
	case o.Result != nil:
		return r.tree(o)
	case o.Channel != nil:
		return r.channel(o)
	}
	return r.removed(o)
}

func (r *syncReport) tree(o *publisher.Outcome) error {
	if o.Changed {
		r.sum.Published++
	} else {
		r.sum.Unchanged++
	}
	out := r.cmd.OutOrStdout()
	switch {
	case r.f.json:
		l := publishedOf(o.Result)
		l.Source, l.DryRun = o.Step.String(), r.f.dryRun
		return typed(out, "published", l)
	case r.f.quiet || !o.Changed:
	case r.f.dryRun:
		fmt.Fprintf(out, "would publish %s from %s\n", o.Result.Reference, o.Step)
	default:
		printPublished(out, o.Result)
	}
	return nil
}

func (r *syncReport) channel(o *publisher.Outcome) error {
	if o.Changed {
		r.sum.Moved++
	}
	c, out := o.Channel, r.cmd.OutOrStdout()
	switch {
	case r.f.json:
		l := movedOf(c)
		l.DryRun = r.f.dryRun
		return typed(out, "channel_moved", l)
	case r.f.quiet || !o.Changed:
	case r.f.dryRun:
		fmt.Fprintf(out, "would point %s to %s\n", c.Channel, c.To)
	default:
		fmt.Fprintf(out, "%s points to %s\n", c.Channel, c.To)
	}
	return nil
}

func (r *syncReport) removed(o *publisher.Outcome) error {
	for i := range o.Removed {
		r.sum.Removed++
		g, out := &o.Removed[i], r.cmd.OutOrStdout()
		switch {
		case r.f.json:
			l := removedOf(g)
			l.DryRun = r.f.dryRun
			if err := typed(out, "removed", l); err != nil {
				return err
			}
		case r.f.quiet:
		case r.f.dryRun:
			fmt.Fprintf(out, "would remove %s\n", g.Reference)
		default:
			fmt.Fprintf(out, "removed %s\n", g.Reference)
		}
	}
	return nil
}

func (r *syncReport) end() error {
	s, out := &r.sum, r.cmd.OutOrStdout()
	if r.f.json {
		if err := typed(out, "summary", s); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	} else if !r.f.quiet {
		tense := ""
		if s.DryRun {
			tense = " (nothing was done)"
		}
		fmt.Fprintf(out, "%s revision %d: %d published, %d unchanged, %d channels moved, %d removed, %d failed%s\n",
			s.Repository, s.Revision, s.Published, s.Unchanged, s.Moved, s.Removed, s.Failed, tense)
	}
	if s.Failed > 0 {
		return fmt.Errorf("%d of the list's entries failed; the others are done", s.Failed)
	}
	return nil
}
