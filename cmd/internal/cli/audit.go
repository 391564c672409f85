package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/audit"
	"github.com/rootstock-cf/rootstock/inventory/files"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
)

// auditFlags are those of rootstock audit.
type auditFlags struct {
	readFlags
	cellFlags
	file  string
	cells []string
}

func newAudit() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit [QUERY]... --store STORE [--file ADVISORIES] [--cells FILE|URL]...",
		Short: "Say which trees, versions and containers have a package in question",
		Long: `Say which published trees have a package in question, under which versions and
channels, which cells run containers on them, and which version to move to.

A query is a name or a package URL and comparisons in the ecosystem's own order:
'openssl < 3.0.2-0ubuntu1.18', 'pkg:npm/bcrypt >= 4, < 5.0.0'. --file reads
advisories in the OSV format. --cells names cells as rootstock fleet takes them.

Exit code: 0 clean, 3 affected, 4 nothing affected found but not everything could
be looked at; the summary says what.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && f.file == "" {
				return misuse(cmd, "ask something: a query such as 'openssl < 3.0.2-0ubuntu1.18', or --file ADVISORIES")
			}
			return f.run(cmd, args)
		},
	}
	f.readFlags.add(cmd.Flags())
	cmd.Flags().StringVar(&f.file, "file", "", "advisories in the OSV format, JSON")
	cmd.Flags().StringSliceVar(&f.cells, "cells", nil, "file or URL of cells' containers; may be repeated")
	f.cellFlags.add(cmd.Flags(), "cells-")
	required(cmd, "store")
	return cmd
}

func (f *auditFlags) run(cmd *cobra.Command, queries []string) error {
	advisories, skipped, err := f.advisories(cmd, queries)
	if err != nil {
		return err
	}
	asker, err := f.asker()
	if err != nil {
		return err
	}
	reader, err := f.open(cmd.Context())
	if err != nil {
		return err
	}
	defer reader.Close()
	trees, err := publishedTrees(cmd.Context(), reader)
	if err != nil {
		return err
	}
	cells := asker.Ask(cmd.Context(), f.cells)
	published := len(trees)
	trees = append(trees, runningDroplets(cmd.Context(), asker, cells)...)
	r := audit.Run(advisories, trees, cells)
	of := treeFiles{reader: reader}
	if err := r.AskOpened(cmd.Context(), cells, audit.Openings{Files: of.affected, Ask: asker.Opened}); err != nil {
		return err
	}
	p := auditPrinter{cmd.OutOrStdout(), r, published, len(trees) - published, skipped}
	if f.json {
		err = p.json()
	} else {
		err = p.text()
	}
	switch {
	case err != nil:
		return err
	case r.Affected():
		return exitCode(exitAffected)
	case !r.Complete():
		return exitCode(exitUnsure)
	}
	return nil
}

func (f *auditFlags) advisories(cmd *cobra.Command, queries []string) (all []audit.Advisory, skipped int, err error) {
	for _, q := range queries {
		a, err := audit.ParseQuery(q)
		if err != nil {
			return nil, 0, misuse(cmd, "%w", err)
		}
		all = append(all, a)
	}
	if f.file == "" {
		return all, 0, nil
	}
	in, err := os.Open(f.file)
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	more, skipped, err := audit.ParseOSV(in)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", f.file, err)
	}
	return append(all, more...), skipped, nil
}

// open opens the repository's newest revision.
func (f *auditFlags) open(ctx context.Context) (*publisher.Reader, error) {
	st, err := openStore(f.store)
	if err != nil {
		return nil, err
	}
	return publisher.OpenReader(ctx, st, f.temp)
}

// treeFiles knows what one tree at a time consists of.
type treeFiles struct {
	reader *publisher.Reader
	id     string
	tree   *files.Tree
}

// affected returns the contents of packages of a tree.
func (x *treeFiles) affected(ctx context.Context, t *audit.Tree, hits []audit.Hit) (all []object.ContentID, err error) {
	if x.id != t.ID {
		entries, read, err := x.reader.Contents(ctx, t.ID)
		if err != nil {
			return nil, err
		}
		x.id, x.tree = t.ID, files.New(entries, read)
	}
	for i := range hits {
		ids, err := x.tree.Of(&hits[i].Package)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	slices.SortFunc(all, func(a, b object.ContentID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(all), nil
}

// publishedTrees reads what is published and what is noted of it.
func publishedTrees(ctx context.Context, r *publisher.Reader) ([]audit.Tree, error) {
	all, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	channels, err := r.Channels(ctx)
	if err != nil {
		return nil, err
	}
	leads := map[string][]string{}
	for _, c := range channels {
		at := c.Reference.WithVersion(c.Version).String()
		leads[at] = append(leads[at], c.Reference.String())
		if c.Rollout != nil {
			at := c.Reference.WithVersion(c.Rollout.Version).String()
			leads[at] = append(leads[at], c.Reference.String()+" (rolled out)")
		}
	}
	var trees []audit.Tree
	known := map[string]int{}
	for _, l := range all {
		i, ok := known[l.Tree]
		if !ok {
			i = len(trees)
			known[l.Tree] = i
			v, err := noted(ctx, r, l.Tree)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.Reference, err)
			}
			trees = append(trees, audit.Tree{ID: l.Tree, Inventory: v})
		}
		trees[i].Versions = append(trees[i].Versions, audit.Version{
			Reference: l.Reference, Published: l.Published, Channels: leads[l.Reference.String()],
		})
	}
	return trees, nil
}

// runningDroplets asks the cells what the droplets consist of that they run.
func runningDroplets(ctx context.Context, asker *fleet.Asker, cells []fleet.Cell) (all []audit.Tree) {
	known := asker.Droplets(ctx, cells)
	for _, digest := range slices.Sorted(maps.Keys(known)) {
		all = append(all, audit.Tree{ID: digest, Inventory: known[digest], Droplet: true})
	}
	return all
}

// noted is a tree's inventory, nil if it has none.
func noted(ctx context.Context, r *publisher.Reader, tree string) (*inventory.Inventory, error) {
	b, err := r.Note(ctx, tree, publisher.PackagesNote, inventory.MaxDocument)
	if errors.Is(err, publisher.ErrNoNote) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := inventory.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return &v, nil
}
