package publisher

import (
	"context"

	"github.com/rootstock-cf/rootstock/catalog"
)

// Edit makes a revision out of edits that no command makes.
func Edit(ctx context.Context, o Options, remove string, linkAt, target string) error {
	p := newPublisher(o)
	h, err := p.head(ctx)
	if err != nil {
		return err
	}
	tx, err := p.begin(ctx, h)
	if err != nil {
		return err
	}
	defer tx.Close()
	if remove != "" {
		if err := tx.Remove(ctx, remove); err != nil {
			return err
		}
	}
	if linkAt != "" {
		if err := tx.MkdirAll(ctx, catalog.Parent(linkAt)); err != nil {
			return err
		}
		if err := tx.Symlink(ctx, linkAt, target); err != nil {
			return err
		}
	}
	_, err = p.commit(ctx, h, tx)
	return err
}
