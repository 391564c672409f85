package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/thintar"
)

func newThinTar() *cobra.Command {
	var st, name string
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "thin-tar REF FILE",
		Short: "Write the small tar that stands for a published stack on a cell",
		Long: `Write a tar of a few kilobytes that Diego takes for a stack's root file
system and rootstock-plugin for REF: cvmfs://REPOSITORY/rootfs/NAME:CHANNEL moves
with its channel, NAME@VERSION does not. With --store, a version is looked up
and the thin tar allows only the tree that it has now.`,
		Args: exactArgs("REF", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := reference.Parse(args[0])
			if err != nil {
				return misuse(cmd, "%w", err)
			}
			if ref.Repository == "" {
				ref.Repository = name
			}
			if ref.Repository == "" {
				return misuse(cmd, "%s does not name its repository: write cvmfs://REPOSITORY/%s, or add --name", ref, ref)
			}
			d := thintar.Descriptor{Ref: ref}
			if st != "" {
				if d.Tree, err = treeOf(cmd, st, ref); err != nil {
					return err
				}
			}
			if filepath.Ext(args[1]) != thintar.Ext {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: rep takes only files that end in %s from extra_root_fs_dir\n", thintar.Ext)
			}
			if err := thintar.WriteFile(args[1], d); err != nil {
				return err
			}
			if *asJSON {
				return typed(cmd.OutOrStdout(), "thin_tar", thinLine{Reference: ref.String(), Tree: d.Tree, File: args[1]})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "wrote %s, which stands for %s\n", args[1], ref)
			return nil
		},
	}
	cmd.Flags().StringVar(&st, "store", "", "directory of the repository, to look the version up in")
	cmd.Flags().StringVar(&name, "name", "", "fully qualified repository name, if REF has none")
	asJSON = wantsJSON(cmd)
	return cmd
}

// thinLine is a small file that was written to stand for something published.
type thinLine struct {
	Reference string `json:"reference"`
	Tree      string `json:"tree,omitempty"`  // the only one it allows
	Mount     string `json:"mount,omitempty"` // of a buildpack
	File      string `json:"file"`
}

// treeOf is the id of a version's tree. A channel has none that stays.
func treeOf(cmd *cobra.Command, st string, ref reference.Reference) (string, error) {
	s, err := openStore(st)
	if err != nil {
		return "", err
	}
	all, err := publisher.List(cmd.Context(), s, "")
	if err != nil {
		return "", err
	}
	if ref.Version == "" {
		return "", misuse(cmd, "--store looks a version up, and %s names none", ref)
	}
	for _, t := range all {
		if t.Reference.Kind == ref.Kind && t.Reference.Name == ref.Name && t.Reference.Version == ref.Version {
			return t.Tree, nil
		}
	}
	return "", fmt.Errorf("%s is not published in %s; rootstock ls --store %s lists what is", ref, st, st)
}
