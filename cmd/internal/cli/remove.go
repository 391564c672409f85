package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/reference"
)

func newRemove() *cobra.Command {
	var f writeFlags
	var untagged bool
	var older time.Duration
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "remove KIND/NAME@VERSION|--untagged --store STORE --keys DIR",
		Short: "Take a version out of the repository",
		Long: `Take a version out of the newest revision. It is refused while a channel points
there. Older revisions keep the version, and rootstock rollback brings it back,
until garbage collection takes them. An image's version is its tag: the tree goes
with the last tag of the image. --untagged takes away the images that no tag and no
channel leads to any more, because their tags have moved.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if untagged {
				return cobra.NoArgs(cmd, args)
			}
			return exactArgs("KIND/NAME@VERSION")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if untagged {
				return removeUntagged(cmd, &f, older, *asJSON)
			}
			if older != 0 {
				return misuse(cmd, "--older-than goes with --untagged")
			}
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
			if *asJSON {
				return typed(out, "removed", removedOf(r))
			}
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
	asJSON = wantsJSON(cmd)
	cmd.Flags().BoolVar(&untagged, "untagged", false, "remove the images that no tag and no channel leads to")
	cmd.Flags().DurationVar(&older, "older-than", 0, "of those, only what was published longer ago than this")
	required(cmd, "store", "keys")
	return cmd
}

func removeUntagged(cmd *cobra.Command, f *writeFlags, older time.Duration, asJSON bool) error {
	p, err := f.open(cmd.Context())
	if err != nil {
		return err
	}
	gone, revision, err := p.RemoveUntagged(cmd.Context(), time.Now().Add(-older))
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if asJSON {
		for i := range gone {
			gone[i].Revision = revision
			if err := typed(out, "removed", removedOf(&gone[i])); err != nil {
				return fmt.Errorf("remove: %w", err)
			}
		}
		return nil
	}
	if len(gone) == 0 {
		fmt.Fprintf(out, "every image has a tag or a channel, or is too young: revision stays %d\n", revision)
		return nil
	}
	for _, g := range gone {
		fmt.Fprintf(out, "removed %s, tree %s\n", g.Path, g.Tree)
	}
	fmt.Fprintf(out, "removed %d images in revision %d\n", len(gone), revision)
	return nil
}
