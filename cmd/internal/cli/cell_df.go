package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

func newDiskFree() *cobra.Command {
	var a asking
	var would string
	cmd := &cobra.Command{
		Use:   "df [--would REFERENCE]",
		Short: "Say what the bytes in the cache are for, by tree",
		Long: `Say what the bytes in the cache are for: of one tree that containers stand on, of
several, pinned, or of nobody, which is what can go without being missed. --would
says what containers on another tree would add.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var d cell.Disk
			if err := a.do(cmd.Context(), cell.CallDisk, cell.Would{Ref: would}, &d); err != nil {
				return err
			}
			if a.json {
				return typed(cmd.OutOrStdout(), "cache_use", d)
			}
			return printDisk(cmd, &d)
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&would, "would", "", "a tree that containers may be made on")
	return cmd
}

func printDisk(cmd *cobra.Command, d *cell.Disk) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TREE\tEXCLUSIVE\tSHARED\tPINNED\tCONTAINERS\tREFERENCES")
	for i := range d.Trees {
		t := &d.Trees[i]
		names := strings.Join(t.Refs, ", ")
		if !t.Counted {
			fmt.Fprintf(w, "%.12s\t-\t-\t-\t%d\t%s\n", t.ID, t.Containers, names)
			continue
		}
		fmt.Fprintf(w, "%.12s\t%s\t%s\t%s\t%d\t%s\n", t.ID, size(t.Exclusive), size(t.Shared), size(t.Pinned), t.Containers, names)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("df: %w", err)
	}
	quota := "no quota"
	if d.Quota > 0 {
		quota = "quota " + size(d.Quota)
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s in %s (%s): %s of one tree, %s of several, %s pinned, %s reclaimable\n",
		size(d.Bytes), d.Directory, quota, size(d.Exclusive), size(d.Shared), size(d.Pinned), size(d.Reclaimable))
	if x := d.Would; x != nil {
		fmt.Fprintf(out, "%s would add %s in %d contents; it has %s\n", x.Ref, size(x.Adds), x.Contents, size(x.Bytes))
	}
	return nil
}
