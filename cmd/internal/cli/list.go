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
	Channels     []string  `json:"channels"`
	BytesOwn     *int64    `json:"bytes_own,omitempty"`    // with --sizes
	BytesShared  *int64    `json:"bytes_shared,omitempty"` // with --sizes
	Rollouts     []rolling `json:"rollouts"`
}

// rolling is a channel that is on its way to a version, and how far it is.
type rolling struct {
	Channel string `json:"channel"`
	Open    int    `json:"rings_open"`
	Rings   int    `json:"rings"`
	Halted  bool   `json:"halted"`
}

func (r rolling) String() string {
	halted := ""
	if r.Halted {
		halted = ", halted"
	}
	return fmt.Sprintf("%s (ring %d of %d%s)", r.Channel, r.Open, r.Rings, halted)
}

func newList() *cobra.Command {
	var f readFlags
	var measure bool
	cmd := &cobra.Command{
		Use:   "ls --store STORE",
		Short: "List what is published",
		Long: `List what is published, with the channels that point there and, in brackets, how
far a channel is that is rolled out to a version ring by ring. With --sizes also how
many plain bytes of each tree's contents no other tree has (own), and how many
others have, too (shared); a content that several files of a tree hold counts
once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := f.list(cmd, measure)
			if err != nil {
				return err
			}
			if f.json {
				for _, t := range all {
					if err := typed(cmd.OutOrStdout(), "version", t); err != nil {
						return fmt.Errorf("ls: %w", err)
					}
				}
				return nil
			}
			return printTable(cmd, all, measure)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&measure, "sizes", false, "own and shared bytes; reads the table of contents of every tree")
	required(cmd, "store")
	return cmd
}

func (f *readFlags) list(cmd *cobra.Command, measure bool) ([]listed, error) {
	s, err := openStore(f.store)
	if err != nil {
		return nil, err
	}
	trees, err := publisher.List(cmd.Context(), s, f.temp)
	if err != nil {
		return nil, err
	}
	channels, err := publisher.Channels(cmd.Context(), s, f.temp)
	if err != nil {
		return nil, err
	}
	var sizes map[string]publisher.Sizes
	if measure {
		if sizes, err = publisher.MeasureTrees(cmd.Context(), s, f.temp, trees); err != nil {
			return nil, err
		}
	}
	all := make([]listed, len(trees))
	for i, t := range trees {
		all[i] = listed{
			Kind: string(t.Reference.Kind), Name: t.Reference.Name, Version: t.Reference.Version, Path: t.Path,
			Tree: t.Tree, SourceDigest: t.Source, Bytes: t.Bytes, Entries: t.Entries, Published: t.Published, Channels: []string{}, Rollouts: []rolling{},
		}
		for _, c := range channels {
			if c.Reference.Kind != t.Reference.Kind || c.Reference.Name != t.Reference.Name {
				continue
			}
			if c.Version == t.Reference.Version && c.Tree == t.Tree {
				all[i].Channels = append(all[i].Channels, c.Reference.Channel)
			}
			if r := c.Rollout; r != nil && r.Version == t.Reference.Version && r.Tree == t.Tree {
				all[i].Rollouts = append(all[i].Rollouts, rolling{c.Reference.Channel, r.Open, len(r.Rings), r.Halted != nil})
			}
		}
		if n, ok := sizes[t.Tree]; ok {
			all[i].BytesOwn, all[i].BytesShared = &n.Own, &n.Shared
		}
	}
	return all, nil
}

func printTable(cmd *cobra.Command, all []listed, measure bool) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	head := "REFERENCE\tENTRIES\tSIZE\tTREE\tPUBLISHED\tAGE"
	if measure {
		head += "\tOWN\tSHARED"
	}
	fmt.Fprintln(w, head+"\tCHANNELS")
	for _, t := range all {
		fmt.Fprintf(w, "%s/%s@%s\t%d\t%s\t%.12s\t%s\t%s", t.Kind, t.Name, t.Version, t.Entries, size(t.Bytes), t.Tree, t.Published.Format(time.RFC3339), age(time.Since(t.Published)))
		if measure {
			fmt.Fprintf(w, "\t%s\t%s", size(*t.BytesOwn), size(*t.BytesShared))
		}
		channels := t.Channels
		for _, r := range t.Rollouts {
			channels = append(channels, r.String())
		}
		fmt.Fprintf(w, "\t%s\n", cmp.Or(strings.Join(channels, ", "), "-"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	return nil
}

// age is a time as people say it, in its largest unit.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return "0m"
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}
