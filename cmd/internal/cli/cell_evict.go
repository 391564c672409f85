package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/config"
)

func newEvict() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "evict BYTES",
		Short: "Free that much of the cache: least recently used first, pinned last",
		Args:  exactArgs("BYTES"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := config.ParseSize(args[0])
			if err != nil {
				return misuse(cmd, "BYTES: %w", err)
			}
			var freed cell.Evict
			if err := a.do(cmd.Context(), cell.CallEvict, cell.Evict{Bytes: n}, &freed); err != nil {
				return err
			}
			if a.json {
				return typed(cmd.OutOrStdout(), "evicted", freed)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "freed %s\n", size(freed.Bytes))
			return nil
		},
	}
	a.flags(cmd)
	return cmd
}
