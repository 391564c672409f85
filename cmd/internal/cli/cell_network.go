package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newServers() *cobra.Command {
	return newWays("servers", "server", "Say what is thought of each server", func(w cell.Ways) []cell.Way { return w.Servers })
}

func newProxies() *cobra.Command {
	return newWays("proxies", "proxy", "Say what is thought of each proxy", func(w cell.Ways) []cell.Way { return w.Proxies })
}

// newWays makes servers and proxies, which differ only in what they list.
func newWays(use, messageType, short string, of func(cell.Ways) []cell.Way) *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var w cell.Ways
			if err := a.do(cmd.Context(), cell.CallNetwork, nil, &w); err != nil {
				return err
			}
			return table(cmd, a.json, messageType, "REPOSITORY\tGROUP\tNAME\tSTATE", of(w), func(out io.Writer, x cell.Way) {
				state := "well"
				switch {
				case x.RestsUntil != nil:
					state = "failed, tried last until " + when(x.RestsUntil)
				case x.Used:
					state = "in use"
				}
				fmt.Fprintf(out, "%s\t%d\t%s\t%s\n", x.Repository, x.Group, x.Name, state)
			})
		},
	}
	a.flags(cmd)
	return cmd
}
