package cli

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
)

// revisionLine is a line of `rootstock history --json`.
type revisionLine struct {
	MessageType string    `json:"message_type"`
	Revision    uint64    `json:"revision"`
	Root        string    `json:"root"`
	CatalogSize int64     `json:"catalog_size"`
	Time        time.Time `json:"time"`
	Tags        []tagLine `json:"tags"`
}

func newHistory() *cobra.Command {
	var f readFlags
	var limit int
	cmd := &cobra.Command{
		Use:   "history --store STORE",
		Short: "List a repository's revisions with their tags, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := openStore(f.store)
			if err != nil {
				return err
			}
			all, err := publisher.History(cmd.Context(), st, f.temp, max(limit, 0))
			if err != nil {
				return err
			}
			if f.json {
				return printRevisions(cmd, all)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "REVISION\tTIME\tTAGS\tWHAT")
			for _, r := range all {
				var names []string
				what := ""
				for _, t := range r.Tags {
					names = append(names, t.Name)
					if what == "" || strings.HasPrefix(t.Name, "generic") {
						what = t.Description
					}
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", r.Number, stamp(r.Time), cmp.Or(strings.Join(names, " "), "-"), cmp.Or(printable(what), "-"))
			}
			if err := w.Flush(); err != nil {
				return fmt.Errorf("history: %w", err)
			}
			return nil
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().IntVar(&limit, "limit", 50, "how many revisions; 0 for all")
	required(cmd, "store")
	return cmd
}

func printRevisions(cmd *cobra.Command, all []publisher.Revision) error {
	for _, r := range all {
		l := revisionLine{"revision", r.Number, r.Root.String(), r.Size, time.Unix(r.Time, 0).UTC(), []tagLine{}}
		for _, t := range r.Tags {
			l.Tags = append(l.Tags, tagOf(t))
		}
		if err := line(cmd.OutOrStdout(), l); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	return nil
}

// printable is text from a repository made safe for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
