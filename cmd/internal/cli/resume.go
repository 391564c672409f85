package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newResume() *cobra.Command {
	var f writeFlags
	var after uint64
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "resume --after REVISION --store STORE --keys DIR",
		Short: "Go on from a backup that is behind what cells have seen",
		Long: `Go on publishing from a copy that is behind: after the newest revisions were lost,
cells refuse a repository that counts anew below what they have seen. What the
store holds becomes the revision that follows REVISION, the highest that any
cell or replica reports (rootstock-cell status). docs/recovery.md has the whole
procedure. Where a replica has the lost revisions, begin with a copy of that
instead, and nothing is lost.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			rev, err := p.Resume(cmd.Context(), after)
			if err != nil {
				return err
			}
			if *asJSON {
				return typed(cmd.OutOrStdout(), "resumed", revised{Revision: rev})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "revision %d follows revision %d; publish again what was published since the copy was made\n", rev, after)
			return nil
		},
	}
	f.add(cmd.Flags())
	asJSON = wantsJSON(cmd)
	cmd.Flags().Uint64Var(&after, "after", 0, "the highest revision that any cell or replica has seen")
	required(cmd, "store", "keys")
	_ = cmd.MarkFlagRequired("after") //nolint:errcheck // the flag is defined above
	return cmd
}
