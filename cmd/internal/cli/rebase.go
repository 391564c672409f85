package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

func newRebase() *cobra.Command {
	var f publishFlags
	var i imageFlags
	var onto, as string
	cmd := &cobra.Command{
		Use:   "rebase IMAGE --onto RUN-IMAGE",
		Short: "Publish an app image that buildpacks built, on another run image",
		Long: `Publish an image that Cloud Native Buildpacks built with its own layers on top of
another run image, such as a patched one, without its source. The image's label
io.buildpacks.lifecycle.metadata says where its own layers begin. The image's tag
moves in the repository, not in its registry; --as gives another. Both images are
written as for rootstock publish image.`,
		Args: exactArgs("IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.source(cmd, &i)
			if err != nil {
				return err
			}
			app, err := source.OpenImage(cmd.Context(), args[0], o)
			if err != nil {
				return fmt.Errorf("rebase: %w", err)
			}
			run, err := source.OpenImage(cmd.Context(), onto, o)
			if err != nil {
				return errors.Join(fmt.Errorf("rebase %s: the run image: %w", args[0], err), app.Close())
			}
			src, err := source.Rebase(app, run)
			if err != nil {
				return fmt.Errorf("%s onto %s: %w", args[0], onto, err)
			}
			defer src.Close()
			ref, err := imageReference(src, as)
			if err != nil {
				return misuse(cmd, "%w", err)
			}
			return f.run(cmd, publisher.Job{Reference: ref, Source: src})
		},
	}
	f.addPublish(cmd.Flags())
	i.add(cmd.Flags())
	cmd.Flags().StringVar(&onto, "onto", "", "the run image, written as IMAGE is")
	cmd.Flags().StringVar(&as, "as", "", "publish under this name, REGISTRY/REPOSITORY:TAG, instead of the image's own")
	required(cmd, "store", "keys", "onto")
	return cmd
}
