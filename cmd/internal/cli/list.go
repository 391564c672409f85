package cli

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
)

// listed is a line of `rootstock ls --json`, one object per tree.
type listed struct {
	Kind         string    `json:"kind"`
	Name         string    `json:"name"`
	Version      string    `json:"version"`
	Path         string    `json:"path"`
	Tree         string    `json:"tree"`
	SourceDigest string    `json:"source_digest"`
	Bytes        int64     `json:"bytes"`
	Entries      int64     `json:"entries"`
	Published    time.Time `json:"published"`
}

func newList() *cobra.Command {
	var st string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls --store STORE",
		Short: "List what is published",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openStore(st)
			if err != nil {
				return err
			}
			all, err := publisher.List(cmd.Context(), s, "")
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, all)
			}
			return printTable(cmd, all)
		},
	}
	cmd.Flags().StringVar(&st, "store", "", "directory of the repository")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	required(cmd, "store")
	return cmd
}

func printJSON(cmd *cobra.Command, all []publisher.Listed) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	for _, t := range all {
		if err := enc.Encode(listed{
			Kind: string(t.Reference.Kind), Name: t.Reference.Name, Version: t.Reference.Version, Path: t.Path,
			Tree: t.Tree, SourceDigest: t.Source, Bytes: t.Bytes, Entries: t.Entries, Published: t.Published,
		}); err != nil {
			return fmt.Errorf("ls: %w", err)
		}
	}
	return nil
}

func printTable(cmd *cobra.Command, all []publisher.Listed) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "REFERENCE\tENTRIES\tSIZE\tTREE\tPUBLISHED")
	for _, t := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%.12s\t%s\n", t.Reference, t.Entries, size(t.Bytes), t.Tree, t.Published.Format(time.RFC3339))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	return nil
}
