package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newCellExplain() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "explain PATH|REFERENCE...",
		Short: "Say where a file comes from and whether it is here",
		Args:  somePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []cell.Explained
			if err := a.do(cmd.Context(), cell.CallExplain, cell.Paths{Paths: args}, &list); err != nil {
				return err
			}
			for _, x := range list {
				if a.json {
					if err := typed(cmd.OutOrStdout(), "path", x); err != nil {
						return fmt.Errorf("explain: %w", err)
					}
				} else if err := printExplained(cmd, x); err != nil {
					return err
				}
			}
			return nil
		},
	}
	a.flags(cmd)
	return cmd
}

func printExplained(cmd *cobra.Command, x cell.Explained) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "path\t%s of %s\n", x.Path, x.Repository)
	fmt.Fprintf(w, "is\t%s, %s\n", x.Type, size(x.Bytes))
	if x.Tree != "" {
		fmt.Fprintf(w, "tree\t%s\n", x.Tree)
	}
	fmt.Fprintf(w, "catalog\t%s at %s\n", x.Catalog, x.CatalogAt)
	for _, o := range x.Objects {
		where := "not here"
		if o.Cached {
			where = "cached"
		}
		fmt.Fprintf(w, "object\t%s (%s, %s from %d): %s\n", o.Hash, x.Compression, size(o.Bytes), o.Offset, where)
		fmt.Fprintf(w, "  from\t%s/%s\n", x.Server, o.Path)
	}
	if len(x.Containers) > 0 {
		fmt.Fprintf(w, "containers\t%s\n", strings.Join(x.Containers, " "))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	return nil
}
