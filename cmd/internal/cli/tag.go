package cli

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/publisher"
)

// tagLine is a line of `rootstock tag --list --json` and part of
// `rootstock history --json`.
type tagLine struct {
	MessageType string    `json:"message_type"`
	Name        string    `json:"name"`
	Revision    uint64    `json:"revision"`
	Root        string    `json:"root"`
	Time        time.Time `json:"time"`
	Description string    `json:"description,omitempty"`
}

func tagOf(t history.Tag) tagLine {
	return tagLine{"tag", t.Name, t.Revision, t.Root.String(), time.Unix(t.Timestamp, 0).UTC(), t.Description}
}

func newTag() *cobra.Command {
	var f writeFlags
	var description string
	var list, remove, asJSON bool
	cmd := &cobra.Command{
		Use:   "tag NAME --store STORE --keys DIR",
		Short: "Name the newest revision; list or remove such names",
		Long: `Name the newest revision of the whole repository, as CernVM-FS does: cells mount
it with --tag, rollback goes back to it, garbage collection keeps it.

  rootstock tag NAME --store STORE --keys DIR [--description TEXT]
  rootstock tag --list --store STORE [--json]
  rootstock tag --remove NAME… --store STORE --keys DIR`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case list && (remove || len(args) > 0):
				return misuse(cmd, "--list stands alone")
			case list:
				return listTags(cmd, &f, asJSON)
			case f.keys == "":
				return misuse(cmd, "--keys DIR is missing: directory of FQRN.key and FQRN.crt")
			case len(args) == 0:
				return misuse(cmd, "a tag's name is missing")
			case remove:
				return removeTags(cmd, &f, args, asJSON)
			case len(args) > 1:
				return misuse(cmd, "%s takes one NAME, not %d arguments", cmd.CommandPath(), len(args))
			}
			p, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			t, err := p.Tag(cmd.Context(), args[0], description)
			if err != nil {
				return err
			}
			if asJSON {
				return line(cmd.OutOrStdout(), tagOf(t))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "revision %d is tagged %s\n", t.Revision, t.Name)
			return nil
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&description, "description", "", "what the tag says of itself")
	cmd.Flags().BoolVar(&list, "list", false, "list all tags, youngest first")
	cmd.Flags().BoolVar(&remove, "remove", false, "remove the tags named")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	required(cmd, "store")
	return cmd
}

func listTags(cmd *cobra.Command, f *writeFlags, asJSON bool) error {
	st, err := openStore(f.store)
	if err != nil {
		return err
	}
	tags, err := publisher.Tags(cmd.Context(), st, f.temp)
	if err != nil {
		return err
	}
	if asJSON {
		for _, t := range tags {
			if err := line(cmd.OutOrStdout(), tagOf(t)); err != nil {
				return fmt.Errorf("tag: %w", err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TAG\tREVISION\tTIME\tDESCRIPTION")
	for _, t := range tags {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", t.Name, t.Revision, stamp(t.Timestamp), printable(t.Description))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("tag: %w", err)
	}
	return nil
}

func removeTags(cmd *cobra.Command, f *writeFlags, names []string, asJSON bool) error {
	p, err := f.open(cmd.Context())
	if err != nil {
		return err
	}
	if err := p.RemoveTags(cmd.Context(), names...); err != nil {
		return err
	}
	for _, n := range names {
		if asJSON {
			if err := typed(cmd.OutOrStdout(), "tag_removed", struct {
				Name string `json:"name"`
			}{n}); err != nil {
				return fmt.Errorf("tag: %w", err)
			}
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "removed tag %s\n", n)
	}
	return nil
}

// stamp prints UNIX seconds for people.
func stamp(t int64) string { return time.Unix(t, 0).UTC().Format(time.RFC3339) }
