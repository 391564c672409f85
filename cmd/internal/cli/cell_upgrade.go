package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell/upgrade"
)

func newUpgrade() *cobra.Command {
	var a asking
	var o upgrade.Options
	cmd := &cobra.Command{
		Use:   "upgrade --binary FILE",
		Short: "Swap the daemon's program while containers run, and go back if the new one does not answer",
		Long: `Install FILE in the place of the daemon's program and have the daemon execute it, in
the same process. The old program stays beside it as PROGRAM.previous. If the new
one does not answer in time, the old one is put back and the daemon is killed, for
its supervisor to start again. Readers wait meanwhile, and none fails. It takes a
daemon with a holder.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Socket = a.socket
			r, err := upgrade.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if a.json {
				return typed(cmd.OutOrStdout(), "upgraded", r)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "process %d runs the new %s, %.0f ms after the old one was told\n", r.PID, r.Binary, r.Took*1000)
			return nil
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&o.Binary, "binary", "", "the new program")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", 30*time.Second, "how long the new program may take to answer")
	cmd.Flags().DurationVar(&o.Return, "return", 2*time.Minute, "how long the old one may take to answer again, supervisor included")
	required(cmd, "binary")
	return cmd
}
