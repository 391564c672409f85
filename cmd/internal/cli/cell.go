package cli

import "github.com/spf13/cobra"

// NewCell is the cell's program.
func NewCell() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rootstock-cell",
		Short: "Show repositories on a cell",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newMount(), newStatus())
	cmd.AddCommand(newFetchLayer())
	return cmd
}
