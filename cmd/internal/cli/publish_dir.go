package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

func newPublishDir(f *publishFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dir NAME VERSION DIR",
		Short: "Publish a directory",
		Long: `Publish a directory as dirs/NAME@VERSION, with everything it holds: owners,
times, hard links, extended attributes, capabilities, devices. It must not change
meanwhile. Run it as root, or what only root can read is an error. DIR may be
written dir:DIR.`,
		Args: exactArgs("NAME", "VERSION", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref := reference.Reference{Kind: reference.Dirs, Name: args[0], Version: args[1]}
			if err := ref.Validate(); err != nil {
				return misuse(cmd, "%w", err)
			}
			src, err := source.OpenDir(cmd.Context(), strings.TrimPrefix(args[2], "dir:"), source.Options{TempDir: f.temp})
			if err != nil {
				return fmt.Errorf("publish %s: %w", ref, err)
			}
			defer src.Close()
			return f.run(cmd, publisher.Job{Reference: ref, Source: src})
		},
	}
	required(cmd, "store", "keys")
	return cmd
}
