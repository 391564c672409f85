package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newRefresh() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "refresh [FQRN...]",
		Short: "Look for new revisions at once",
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []cell.Refreshed
			if err := a.do(cmd.Context(), cell.CallRefresh, cell.Names{Names: args}, &list); err != nil {
				return err
			}
			failed := 0
			err := table(cmd, a.json, "refreshed", "NAME\tREVISION\tOUTCOME", list, func(w io.Writer, r cell.Refreshed) {
				outcome := "unchanged"
				if r.Changed {
					outcome = "new"
				}
				if r.Error != "" {
					outcome = r.Error
				}
				fmt.Fprintf(w, "%s\t%d\t%s\n", r.Name, r.Revision, outcome)
			})
			for _, r := range list {
				if r.Error != "" {
					failed++
				}
			}
			if err == nil && failed > 0 {
				err = fmt.Errorf("%d of %d repositories could not be refreshed; what they showed stays in view", failed, len(list))
			}
			return err
		},
	}
	a.flags(cmd)
	return cmd
}
