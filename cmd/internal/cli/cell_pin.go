package cli

import (
	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newPin() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "pin PATH|REFERENCE...",
		Short: "Keep what lies below a path in the cache as long as anything can go instead",
		Args:  somePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []cell.FixedPin
			if err := a.do(cmd.Context(), cell.CallPin, cell.Paths{Paths: args}, &list); err != nil {
				return err
			}
			return printPins(cmd, &a, list)
		},
	}
	a.flags(cmd)
	return cmd
}
