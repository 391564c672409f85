package cli

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newReport() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Print what this cell tells the fleet: containers, their trees and apps, as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var raw json.RawMessage
			if err := a.do(cmd.Context(), cell.CallReport, nil, &raw); err != nil {
				return err
			}
			return typed(cmd.OutOrStdout(), "report", raw)
		},
	}
	a.flags(cmd)
	return cmd
}
