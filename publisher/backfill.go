package publisher

import (
	"bytes"
	"context"
	"fmt"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory/packages"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/ingest"
	"github.com/rootstock-cf/rootstock/publisher/revision"
)

// Backfilled says what [Publisher.Backfill] came to.
type Backfilled struct {
	Trees    []string // ids of the trees that have notes now and had none
	Revision uint64   // of the repository that has them
}

// Backfill notes the packages of trees that were published without: those of
// which wanted, asked about each name of each tree, is true. It reads listings
// and contents back from the store and makes one revision, or none if no notes
// are missing.
func (p *Publisher) Backfill(ctx context.Context, wanted func(Listed) bool) (*Backfilled, error) {
	done := &Backfilled{}
	var err error
	done.Revision, err = p.edit(ctx, "note packages", func(ctx context.Context, h *head, tx *revision.Tx) (bool, error) {
		v := &view{st: p.o.Store, tx: tx}
		all, err := v.all(ctx)
		if err != nil {
			return false, err
		}
		seen := map[string]bool{}
		for _, l := range all {
			if seen[l.Tree] || !wanted(l) {
				continue
			}
			seen[l.Tree] = true
			if lacks, err := v.lacksNotes(ctx, l.Tree); err != nil || !lacks {
				if err != nil {
					return false, err
				}
				continue
			}
			if err := p.noteAgain(ctx, h, v, l.Tree); err != nil {
				return false, fmt.Errorf("%s: %w", l.Reference, err)
			}
			done.Trees = append(done.Trees, l.Tree)
		}
		if len(done.Trees) == 0 {
			return false, nil
		}
		return true, putEmpty(ctx, p.o.Store, h.settings)
	})
	if err != nil {
		return nil, fmt.Errorf("note packages: %w", err)
	}
	return done, nil
}

// lacksNotes reports whether one of the notes of a tree is missing.
func (v *view) lacksNotes(ctx context.Context, tree string) (bool, error) {
	for _, name := range noteFiles {
		if _, ok, err := v.tx.Lookup(ctx, ownDir(notesDir, tree)+"/"+name); err != nil || !ok {
			return true, err
		}
	}
	return false, nil
}

// noteAgain stores and files the notes of a tree that is published.
func (p *Publisher) noteAgain(ctx context.Context, h *head, v *view, tree string) error {
	id, err := object.ParseContentID(tree)
	if err != nil {
		return err
	}
	listing, err := v.listing(ctx, tree)
	if err != nil {
		return err
	}
	entries, _, err := imagemeta.Decode(bytes.NewReader(listing), imagemeta.DefaultLimits)
	if err != nil {
		return fmt.Errorf("listing of tree %s: %w", tree, err)
	}
	objects, err := v.objects(ctx, tree)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	if err := p.note(ctx, files, packages.New(), id, entries, objects.Lookup); err != nil {
		return err
	}
	stored, err := p.storeFiles(ctx, files, ingest.Options{
		Compression: h.settings.Compression, Algorithm: h.settings.Algorithm,
		Workers: p.o.Workers, Chunking: ingest.DefaultChunking,
	})
	if err != nil {
		return err
	}
	return fileNotes(ctx, v.tx, tree, stored)
}
