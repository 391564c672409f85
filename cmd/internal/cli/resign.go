package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
)

func newResign() *cobra.Command {
	var f writeFlags
	var force bool
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "resign --store STORE --keys DIR",
		Short: "Sign the newest revision anew, with another release key",
		Long: `Sign the newest revision's manifest anew with the release key in DIR, whose
certificate must be on the installed whitelist: the second half of a change of
keys (docs/keys.md). The revision stays what it is.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options(cmd.Context())
			if err != nil {
				return err
			}
			rev, err := publisher.Resign(cmd.Context(), o, force)
			if err != nil {
				return err
			}
			if *asJSON {
				return typed(cmd.OutOrStdout(), "resigned", revised{o.Keys.Name, rev})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s revision %d is signed with the key in %s\n", o.Keys.Name, rev, f.keys)
			return nil
		},
	}
	f.add(cmd.Flags())
	asJSON = wantsJSON(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "sign even if what is there has no signature that counts; compare it with a replica first")
	required(cmd, "store", "keys")
	return cmd
}
