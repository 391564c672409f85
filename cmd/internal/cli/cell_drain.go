package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newDrain() *cobra.Command {
	var a asking
	var wait time.Duration
	var undo bool
	cmd := &cobra.Command{
		Use:   "drain [--wait TIME | --undo]",
		Short: "Take no new containers and wait for those that there are to go",
		Long: `Take no new containers, until --undo or a restart, and wait for those that there
are to go. Exit code 1 says that some are left when the time is up.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var d cell.Drained
			p := cell.Drain{Undo: undo, Wait: wait.Seconds()}
			err := a.long(cmd, cell.CallDrain, p, &d, func(raw json.RawMessage) string {
				var p cell.Drained
				if json.Unmarshal(raw, &p) != nil {
					return ""
				}
				return fmt.Sprintf("%d containers left", len(p.Containers))
			})
			if err != nil {
				return err
			}
			switch {
			case a.json:
				err = typed(cmd.OutOrStdout(), "drain", d)
			case undo:
				fmt.Fprintln(cmd.OutOrStdout(), "taking containers again")
			case len(d.Containers) == 0:
				fmt.Fprintln(cmd.OutOrStdout(), "drained: no containers are left")
			}
			if err == nil && !undo && len(d.Containers) > 0 {
				err = fmt.Errorf("%d containers are left after %s; draining goes on until --undo", len(d.Containers), wait)
			}
			return err
		},
	}
	a.flags(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Minute, "how long to wait; 0 not at all")
	cmd.Flags().BoolVar(&undo, "undo", false, "take containers again")
	cmd.MarkFlagsMutuallyExclusive("wait", "undo")
	return cmd
}
