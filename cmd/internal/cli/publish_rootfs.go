package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

func newPublishRootfs(f *publishFlags) *cobra.Command {
	var i imageFlags
	var receipt string
	cmd := &cobra.Command{
		Use:   "rootfs [NAME VERSION] FILE | NAME VERSION IMAGE",
		Short: "Publish a root file system: a tarball (.tar, .tar.gz, .tar.zst, .tar.xz) or an image, such as a CNB run image",
		Long: `Publish a root file system tarball: plain, or compressed with gzip, zstd or
xz, whatever its name ends in. Without NAME and VERSION, the version is what
/etc/stack-version in it says, and the name what its file is called by:
cflinuxfs4 for cflinuxfs4-1.97.0.tar.gz. The receipt that cflinuxfs's makers put
beside it (receipt.cflinuxfs4.x86_64 beside cflinuxfs4.x86_64.tar.gz) is taken
along. An image is written as for publish image, and needs NAME and VERSION.`,
		Args: namedOrNot("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, file := cmd.Context(), args[len(args)-1]
			o, err := f.source(cmd, &i)
			if err != nil {
				return err
			}
			open, image := source.OpenRootfs, source.IsImage(file)
			if image {
				open = source.OpenImage
			}
			src, err := open(ctx, file, o)
			if err != nil {
				return fmt.Errorf("publish rootfs: %w", err)
			}
			defer src.Close()
			if len(args) == 1 && !image {
				if err := src.StackVersion(ctx, file); err != nil {
					return err
				}
			}
			ref, err := named(cmd, reference.Rootfs, src, args, "/etc/stack-version in it, or its file's name")
			if err != nil {
				return err
			}
			if receipt == "" && !image {
				receipt = source.FindReceipt(file)
			}
			if receipt != "" {
				if err := src.TakeReceipt(receipt); err != nil {
					return fmt.Errorf("publish %s: %w", ref, err)
				}
				src.Notes = append(src.Notes, "took along "+receipt)
			}
			return f.run(cmd, publisher.Job{Reference: ref, Source: src})
		},
	}
	i.add(cmd.Flags())
	cmd.Flags().StringVar(&receipt, "receipt", "", "list of packages to keep with it (default: the one beside FILE, if any)")
	required(cmd, "store", "keys")
	return cmd
}

// namedOrNot wants NAME, VERSION and what, or what alone.
func namedOrNot(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return exactArgs("NAME", "VERSION", what)(cmd, args)
	}
}

// named is what a tree is published as: what the arguments say, or else the
// source itself, in the places told by where.
func named(cmd *cobra.Command, kind reference.Kind, src *source.Source, args []string, where string) (reference.Reference, error) {
	ref := reference.Reference{Kind: kind, Name: src.Name, Version: src.Version}
	if len(args) > 1 {
		ref.Name, ref.Version = args[0], args[1]
	}
	switch {
	case ref.Name == "":
		return ref, misuse(cmd, "%s does not say what it is called (%s): give NAME and VERSION", args[len(args)-1], where)
	case ref.Version == "":
		return ref, misuse(cmd, "%s does not say its version (%s): give NAME and VERSION", args[len(args)-1], where)
	}
	if err := ref.Validate(); err != nil {
		return ref, misuse(cmd, "%w", err)
	}
	return ref, nil
}
