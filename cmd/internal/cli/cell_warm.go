package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newWarm() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "warm PATH|REFERENCE...",
		Short: "Fetch all that lies below a path into the cache",
		Args:  somePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			var done cell.Warmed
			err := a.long(cmd, cell.CallWarm, cell.Paths{Paths: args}, &done, func(raw json.RawMessage) string {
				var p cell.Warmed
				if json.Unmarshal(raw, &p) != nil {
					return ""
				}
				return warmed(p)
			})
			if err != nil {
				return err
			}
			if a.json {
				err = typed(cmd.OutOrStdout(), "warmed", done)
			} else {
				fmt.Fprintln(cmd.OutOrStdout(), warmed(done))
			}
			if err == nil && done.Failures > 0 {
				err = fmt.Errorf("%d files could not be fetched; the first: %s", done.Failures, done.Failure)
			}
			return err
		},
	}
	a.flags(cmd)
	return cmd
}

func warmed(w cell.Warmed) string {
	return fmt.Sprintf("%d files, %s, of which %s fetched", w.Files, size(w.Bytes), size(w.Fetched))
}
