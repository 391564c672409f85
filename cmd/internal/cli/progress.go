package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cmd/internal/progress"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// tell begins to tell on standard error how far a command has come. The caller
// ends it before it prints what came of it.
func tell(cmd *cobra.Command, quiet, asJSON bool, state func() progress.State) *progress.Line {
	return progress.Start(progress.Options{Out: cmd.ErrOrStderr(), Quiet: quiet, JSON: asJSON, State: state})
}

// reading is the state of a command that reads sources.
func reading(doing string, p *source.Progress) func() progress.State {
	return func() progress.State {
		s := progress.State{Doing: doing, Bytes: p.Read.Load(), InBytes: true}
		if !p.Unknown.Load() {
			s.Done, s.Total = s.Bytes, p.Total.Load()
		}
		return s
	}
}

// size prints bytes for people.
func size(n int64) string { return progress.Size(n) }

// counted prints how many things there are of a kind.
func counted(n int64, things string) string { return fmt.Sprintf("%d %s", n, things) }
