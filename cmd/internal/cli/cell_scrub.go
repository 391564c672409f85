package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/config"
)

func newScrub() *cobra.Command {
	var a asking
	var rate string
	cmd := &cobra.Command{
		Use:   "scrub",
		Short: "Read the whole cache, replace what is damaged and name the containers concerned",
		Long: `Read the whole cache and compare each content with its digest. What is damaged is
removed and, where a container's tree or anything in use needs it, fetched again.
Containers are named whose trees hold it: they may have read what was wrong. Exit
code 1 says that there was damage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := config.ParseSize(rate)
			if err != nil {
				return misuse(cmd, "--rate: %w", err)
			}
			var done cell.Scrubbed
			err = a.long(cmd, cell.CallScrub, cell.Scrub{Rate: n}, &done, func(raw json.RawMessage) string {
				var p cell.Scrubbed
				if json.Unmarshal(raw, &p) != nil {
					return ""
				}
				return size(p.Bytes) + " read"
			})
			if err != nil {
				return err
			}
			if a.json {
				err = typed(cmd.OutOrStdout(), "scrubbed", done)
			} else {
				printScrubbed(cmd, done)
			}
			if err == nil && len(done.Damaged) > 0 {
				err = fmt.Errorf("%d contents were damaged; look at the disk of the cache", len(done.Damaged))
			}
			return err
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&rate, "rate", "0", "bytes per second to read at most, such as 20MB; 0 for as fast as the disk")
	return cmd
}

func printScrubbed(cmd *cobra.Command, s cell.Scrubbed) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%d contents, %s read, %d damaged\n", s.Contents, size(s.Bytes), len(s.Damaged))
	for _, d := range s.Damaged {
		outcome := "removed"
		switch {
		case d.Replaced:
			outcome = "replaced"
		case d.Failure != "":
			outcome = "removed, not replaced: " + d.Failure
		}
		fmt.Fprintf(out, "%s (%s): %s\n", d.Content, size(d.Bytes), outcome)
		for _, p := range d.Paths {
			fmt.Fprintf(out, "  path %s\n", p)
		}
		if len(d.Containers) > 0 {
			fmt.Fprintf(out, "  containers %s\n", strings.Join(d.Containers, " "))
		}
	}
}
