package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newRollback() *cobra.Command {
	var f writeFlags
	var to string
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "rollback --to TAG --store STORE --keys DIR",
		Short: "Make the whole repository what it was at a tag",
		Long: `Make the whole repository what it was at a tag, as a new revision. Tags of younger
revisions are removed. Versions published since are no longer listed; cells that
run them keep them until the containers end and the objects are collected. To
move one channel back, see rootstock channel rollback.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			r, err := p.Rollback(cmd.Context(), to)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if *asJSON {
				gone := []string{}
				for _, t := range r.Removed {
					gone = append(gone, t.Name)
				}
				return typed(out, "rolled_back", struct {
					Revision    uint64   `json:"revision"`
					From        uint64   `json:"from"`
					Shows       uint64   `json:"shows"`
					Tag         string   `json:"tag"`
					TagsRemoved []string `json:"tags_removed"`
				}{r.Revision, r.From, r.Was, to, gone})
			}
			fmt.Fprintf(out, "revision %d shows what revision %d did (%s); revision %d was the newest\n", r.Revision, r.Was, r.To, r.From)
			for _, t := range r.Removed {
				fmt.Fprintf(out, "removed tag %s (revision %d)\n", t.Name, t.Revision)
			}
			return nil
		},
	}
	f.add(cmd.Flags())
	asJSON = wantsJSON(cmd)
	cmd.Flags().StringVar(&to, "to", "", "the tag to go back to; rootstock tag --list shows them")
	required(cmd, "store", "keys", "to")
	return cmd
}
