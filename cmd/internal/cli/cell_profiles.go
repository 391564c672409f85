package cli

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newProfiles() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "profiles",
		Short: "Print what containers here opened when they started, as JSON for rootstock profile publish",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var failed error
			err := a.client(true).Do(cmd.Context(), cell.CallProfiles, nil, nil, func(raw json.RawMessage) {
				if failed == nil {
					failed = typed(cmd.OutOrStdout(), "profile", raw)
				}
			})
			if err != nil {
				return err
			}
			return failed
		},
	}
	a.flags(cmd)
	return cmd
}
