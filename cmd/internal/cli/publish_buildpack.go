package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

func newPublishBuildpack(f *publishFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "buildpack [NAME VERSION] FILE",
		Short: "Publish a buildpack's zip, cached or uncached",
		Long: `Publish a buildpack's zip as buildpacks/NAME@VERSION. Without NAME and VERSION
they are what the zip says: language in manifest.yml, and the file VERSION. The
cached and the uncached zip of one version, or those of two stacks, say the same
and have to be told apart by arguments.

rootstock thin-buildpack then writes the small zip for Cloud Controller.`,
		Args: namedOrNot("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, err := source.OpenBuildpack(cmd.Context(), args[len(args)-1], source.Options{TempDir: f.temp})
			if err != nil {
				return fmt.Errorf("publish: %w", err)
			}
			defer src.Close()
			ref, err := named(cmd, reference.Buildpacks, src, args, "language in manifest.yml, the file VERSION")
			if err != nil {
				return err
			}
			return f.run(cmd, publisher.Job{Reference: ref, Source: src})
		},
	}
	required(cmd, "store", "keys")
	return cmd
}
