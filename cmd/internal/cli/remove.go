package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/reference"
)

func newRemove() *cobra.Command {
	var f writeFlags
	cmd := &cobra.Command{
		Use:   "remove KIND/NAME@VERSION --store STORE --keys DIR",
		Short: "Take a version out of the repository",
		Long: `Take a version out of the newest revision. It is refused while a channel points
there. Older revisions keep the version, and rootstock rollback brings it back,
until garbage collection takes them. An image's version is its tag: the tree goes
with the last tag of the image.`,
		Args: exactArgs("KIND/NAME@VERSION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseReference(cmd, args[0])
			if err != nil {
				return err
			}
			if ref.Version == "" {
				return misuse(cmd, "%s: say which version: KIND/NAME@VERSION", ref)
			}
			p, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			r, err := p.Remove(cmd.Context(), ref)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "removed %s in revision %d\n", r.Reference, r.Revision)
			switch {
			case r.TreeStays:
				fmt.Fprintf(out, "  its tree %s stays: other tags of the image point to %s\n", r.Tree, r.Path)
			case ref.Kind == reference.Images:
				fmt.Fprintf(out, "  and its tree %s at %s\n", r.Tree, r.Path)
			}
			return nil
		},
	}
	f.add(cmd.Flags())
	required(cmd, "store", "keys")
	return cmd
}
