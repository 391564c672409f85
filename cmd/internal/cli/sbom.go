package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/publisher"
)

// sbomFormats are the notes a bill of materials is kept as.
var sbomFormats = map[string]string{
	"packages": publisher.PackagesNote, "spdx": publisher.SPDXNote, "cyclonedx": publisher.CycloneDXNote,
	"receipt": publisher.ReceiptNote,
}

func newSBOM() *cobra.Command {
	var f writeFlags
	var format string
	var backfill bool
	cmd := &cobra.Command{
		Use:   "sbom KIND/NAME[@VERSION|:CHANNEL] --store STORE [--format packages|spdx|cyclonedx|receipt]",
		Short: "Print a tree's bill of materials",
		Long: `Print what a published tree says it consists of: packages.json, SPDX 2.3 or
CycloneDX 1.6; or the receipt that came with a root file system. With --backfill, first note it of the tree, or of all trees if
none is named, where it was published before that was done; this makes a
revision and needs --keys.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if backfill && len(args) == 0 {
				return nil
			}
			return exactArgs("KIND/NAME[@VERSION|:CHANNEL]")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			note, ok := sbomFormats[format]
			if !ok {
				return misuse(cmd, "--format %s: there are %s", format, strings.Join(slices.Sorted(maps.Keys(sbomFormats)), ", "))
			}
			if backfill && f.keys == "" {
				return misuse(cmd, "--backfill makes a revision and needs --keys DIR")
			}
			if len(args) == 0 {
				return f.backfill(cmd, func(publisher.Listed) bool { return true })
			}
			ref, err := parseReference(cmd, args[0])
			if err != nil {
				return err
			}
			st, err := openStore(f.store)
			if err != nil {
				return err
			}
			r, err := publisher.OpenReader(cmd.Context(), st, f.temp)
			if err != nil {
				return err
			}
			defer func() { r.Close() }()
			t, err := r.Find(cmd.Context(), ref)
			if err != nil {
				return err
			}
			if backfill {
				if err := f.backfill(cmd, func(l publisher.Listed) bool { return l.Tree == t.Tree }); err != nil {
					return err
				}
				r.Close()
				if r, err = publisher.OpenReader(cmd.Context(), st, f.temp); err != nil {
					return err
				}
			}
			b, err := r.Note(cmd.Context(), t.Tree, note, inventory.MaxDocument)
			if errors.Is(err, publisher.ErrNoNote) && note == publisher.ReceiptNote {
				return fmt.Errorf("%s was published without a receipt; rootstock publish rootfs --receipt FILE takes one along: %w", t.Reference, err)
			}
			if errors.Is(err, publisher.ErrNoNote) {
				return fmt.Errorf("%s was published before bills of materials were made; rootstock sbom %s --backfill --store %s --keys DIR makes one: %w",
					t.Reference, t.Reference, f.store, err)
			}
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", "packages", "packages, spdx, cyclonedx or receipt")
	cmd.Flags().BoolVar(&backfill, "backfill", false, "make it for trees that were published without")
	required(cmd, "store")
	return cmd
}

// backfill says what it did on standard error: standard output is for the
// document.
func (f *writeFlags) backfill(cmd *cobra.Command, wanted func(publisher.Listed) bool) error {
	p, err := f.open(cmd.Context())
	if err != nil {
		return err
	}
	done, err := p.Backfill(cmd.Context(), wanted)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "noted the packages of %d trees; revision %d\n", len(done.Trees), done.Revision)
	return nil
}
