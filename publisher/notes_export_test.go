package publisher

import (
	"context"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/publisher/revision"
)

// Edit makes a revision out of edits that no command makes.
func Edit(ctx context.Context, o Options, remove string, linkAt, target string) error {
	_, err := newPublisher(o).edit(ctx, "test", func(ctx context.Context, _ *head, tx *revision.Tx) (bool, error) {
		if remove != "" {
			if err := tx.Remove(ctx, remove); err != nil {
				return false, err
			}
		}
		if linkAt == "" {
			return true, nil
		}
		if err := tx.MkdirAll(ctx, catalog.Parent(linkAt)); err != nil {
			return false, err
		}
		return true, tx.Symlink(ctx, linkAt, target)
	})
	return err
}

// Forge puts what nobody signed into a signer's file.
func Forge(ctx context.Context, o Options, tree, id string, text []byte) error {
	p := newPublisher(o)
	_, err := p.edit(ctx, "test", func(ctx context.Context, h *head, tx *revision.Tx) (bool, error) {
		files, err := p.storeFiles(ctx, map[string][]byte{id: text}, p.ingestOptions(h))
		if err != nil {
			return false, err
		}
		at := statementsDir(tree) + "/" + id + bundleSuffix
		if err := tx.Remove(ctx, at); err != nil {
			return false, err
		}
		return true, tx.AddFile(ctx, at, files[id])
	})
	return err
}
