package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
)

// changeLine is a line of `rootstock diff --json`.
type changeLine struct {
	MessageType string   `json:"message_type"`
	Path        string   `json:"path"`
	How         string   `json:"how"`
	Fields      []string `json:"fields,omitempty"`
	SizeBefore  int64    `json:"size_before"`
	SizeAfter   int64    `json:"size_after"`
}

// differenceLine is its last one.
type differenceLine struct {
	MessageType string `json:"message_type"`
	From        string `json:"from"`
	To          string `json:"to"`
	FromTree    string `json:"from_tree"`
	ToTree      string `json:"to_tree"`
	Added       int64  `json:"added"`
	Removed     int64  `json:"removed"`
	Changed     int64  `json:"changed"`
	BytesNew    int64  `json:"bytes_new"`
	BytesGone   int64  `json:"bytes_gone"`
}

func newDiff() *cobra.Command {
	var f readFlags
	var summary, packages bool
	cmd := &cobra.Command{
		Use:   "diff A B --store STORE",
		Short: "Compare two published versions",
		Long: `Compare two published versions, KIND/NAME[@VERSION|:CHANNEL] each, by their
listings: + is only in B, - only in A, ~ in both but not alike, with the fields
that differ. New bytes are those of contents that A does not have, uncompressed,
each counted once.`,
		Args: exactArgs("A", "B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := parseReference(cmd, args[0])
			if err != nil {
				return err
			}
			b, err := parseReference(cmd, args[1])
			if err != nil {
				return err
			}
			st, err := openStore(f.store)
			if err != nil {
				return err
			}
			if packages {
				return f.diffPackages(cmd, a, b, summary)
			}
			out := cmd.OutOrStdout()
			d, err := publisher.Diff(cmd.Context(), st, f.temp, a, b, func(c publisher.Change) error {
				switch {
				case summary:
					return nil
				case f.json:
					return line(out, changeLine{"change", c.Path, c.How, c.Fields, c.Before, c.After})
				}
				_, err := fmt.Fprintln(out, changeText(c))
				return err
			})
			if err != nil {
				return err
			}
			if f.json {
				return line(out, differenceLine{
					"summary", d.From.Reference.String(), d.To.Reference.String(), d.From.Tree, d.To.Tree,
					d.Added, d.Removed, d.Changed, d.BytesNew, d.BytesGone,
				})
			}
			if d.From.Tree == d.To.Tree {
				fmt.Fprintf(out, "%s and %s are the same tree, %s\n", d.From.Reference, d.To.Reference, d.To.Tree)
				return nil
			}
			fmt.Fprintf(out, "%s → %s: %d added, %d removed, %d changed; %s new, %s gone\n",
				d.From.Reference, d.To.Reference, d.Added, d.Removed, d.Changed, size(d.BytesNew), size(d.BytesGone))
			return nil
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&summary, "summary", false, "only the last line")
	cmd.Flags().BoolVar(&packages, "packages", false, "compare packages instead of files")
	required(cmd, "store")
	return cmd
}

// changeText is a change on one line. Names are quoted if they hold anything
// that could disturb a terminal.
func changeText(c publisher.Change) string {
	path := "/" + c.Path
	if q := strconv.Quote(path); q != `"`+path+`"` {
		path = q
	}
	switch c.How {
	case publisher.Added:
		return fmt.Sprintf("+ %s %s", path, size(c.After))
	case publisher.Missing:
		return fmt.Sprintf("- %s %s", path, size(c.Before))
	}
	text := fmt.Sprintf("~ %s (%s)", path, strings.Join(c.Fields, ", "))
	if c.Before == c.After {
		return text
	}
	before, after := size(c.Before), size(c.After)
	if before == after {
		before, after = fmt.Sprintf("%d B", c.Before), fmt.Sprintf("%d B", c.After)
	}
	return fmt.Sprintf("%s %s → %s", text, before, after)
}
