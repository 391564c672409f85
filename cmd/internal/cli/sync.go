package cli

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/publisher/wishlist"
)

type syncFlags struct {
	publishFlags
	i             imageFlags
	watch, dryRun bool
	interval      time.Duration
}

func newSync() *cobra.Command {
	var f syncFlags
	cmd := &cobra.Command{
		Use:   "sync WISHLIST --store STORE --keys DIR",
		Short: "Bring a repository to what a list says: trees, channels, what is kept",
		Long: `Publish all that a YAML file lists and that is not there yet, point channels where
it says, and remove what it does not keep, in one revision. Run again, it does
nothing. An entry that fails does not stop the others; the exit code is 1 then.
DUCC's recipes, version 1, are read too. docs/sync.md describes the list.

With --watch it goes on and begins again every --interval, with the list as it is
then. --dry-run says what it would do.`,
		Args: exactArgs("WISHLIST"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.sync(cmd, args[0]) },
	}
	f.addPublish(cmd.Flags())
	f.attest.add(cmd.Flags())
	f.i.add(cmd.Flags())
	cmd.Flags().BoolVar(&f.watch, "watch", false, "go on, and begin again every --interval")
	cmd.Flags().DurationVar(&f.interval, "interval", 10*time.Minute, "with --watch, time from the end of one run to the next")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "change nothing, say what would be done")
	required(cmd, "store", "keys")
	return cmd
}

func (f *syncFlags) sync(cmd *cobra.Command, file string) error {
	if f.watch && f.dryRun {
		return misuse(cmd, "--watch and --dry-run exclude each other")
	}
	if f.interval <= 0 {
		return misuse(cmd, "--interval %s: want a time above 0", f.interval)
	}
	o, err := f.source(cmd, &f.i)
	if err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softLimit)
	}
	if !f.watch {
		return f.once(cmd, file, o)
	}
	for {
		if err := f.once(cmd, file, o); err != nil && cmd.Context().Err() == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v; beginning again in %s\n", cmd.CommandPath(), err, f.interval)
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-time.After(f.interval):
		}
	}
}

// once is one run. Its error counts the entries that failed, which have been
// told of.
func (f *syncFlags) once(cmd *cobra.Command, file string, o source.Options) error {
	ctx := cmd.Context()
	list, err := wishlist.Read(file)
	if err != nil {
		return err
	}
	var read source.Progress
	line := tell(cmd, f.quiet, f.json, reading("publishing", &read))
	defer line.End()
	po, err := f.options(ctx, line)
	if err != nil {
		return err
	}
	po.Progress = &read
	p, err := publisher.Open(ctx, po)
	if err != nil {
		return err
	}
	steps, err := list.Steps(ctx, po.Keys.Name, o)
	if err != nil {
		return err
	}
	apply := func(ctx context.Context, steps []publisher.Step) ([]publisher.Outcome, uint64, error) {
		return p.Apply(ctx, "sync", steps, nil)
	}
	if f.dryRun {
		apply = func(ctx context.Context, steps []publisher.Step) ([]publisher.Outcome, uint64, error) {
			return p.Rehearse(ctx, steps, nil)
		}
	}
	all, revision, err := apply(ctx, steps)
	line.End()
	if err != nil {
		return err
	}
	r := syncReport{f: f, cmd: cmd, sum: syncSummary{Repository: po.Keys.Name, Revision: revision, DryRun: f.dryRun}}
	for i := range all {
		if err := r.outcome(&all[i]); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	return r.end()
}
