package cli

import (
	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newUnpin() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "unpin PATH|REFERENCE...",
		Short: "Take back a pin",
		Args:  somePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []cell.FixedPin
			if err := a.do(cmd.Context(), cell.CallUnpin, cell.Paths{Paths: args}, &list); err != nil {
				return err
			}
			return printPins(cmd, &a, list)
		},
	}
	a.flags(cmd)
	return cmd
}
