package publisher

import (
	"bytes"
	"context"
	"fmt"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory/packages"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/ingest"
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
	r, err := p.backfill(ctx, wanted)
	if err != nil {
		return nil, fmt.Errorf("note packages: %w", err)
	}
	return r, nil
}

func (p *Publisher) backfill(ctx context.Context, wanted func(Listed) bool) (*Backfilled, error) {
	unlock, err := p.o.Store.Lock(ctx, owner())
	if err != nil {
		return nil, err
	}
	defer unlock() //nolint:errcheck // the lock ends with the process at the latest
	h, err := p.head(ctx)
	if err != nil {
		return nil, err
	}
	tx, err := p.begin(ctx, h)
	if err != nil {
		return nil, err
	}
	defer tx.Close()
	r := &Reader{p.o.Store, h, tx}
	all, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	done := &Backfilled{Revision: h.manifest.Revision}
	seen := map[string]bool{}
	for _, l := range all {
		if seen[l.Tree] || !wanted(l) {
			continue
		}
		seen[l.Tree] = true
		missing, err := p.lacks(ctx, r, l.Tree)
		if err != nil {
			return nil, err
		}
		if !missing {
			continue
		}
		files, err := p.noteAgain(ctx, r, l.Tree)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Reference, err)
		}
		if err := fileNotes(ctx, tx, l.Tree, files); err != nil {
			return nil, err
		}
		done.Trees = append(done.Trees, l.Tree)
	}
	if len(done.Trees) > 0 {
		if err := putEmpty(ctx, p.o.Store, h.settings); err != nil {
			return nil, err
		}
		done.Revision, err = p.commit(ctx, h, tx)
	}
	return done, err
}

// lacks reports whether one of the notes of a tree is missing.
func (p *Publisher) lacks(ctx context.Context, r *Reader, tree string) (bool, error) {
	for _, name := range noteFiles {
		if _, ok, err := r.tx.Lookup(ctx, notesDir(tree)+"/"+name); err != nil || !ok {
			return true, err
		}
	}
	return false, nil
}

// noteAgain stores the notes of a tree that is published.
func (p *Publisher) noteAgain(ctx context.Context, r *Reader, tree string) (map[string]imagemeta.Stored, error) {
	id, err := object.ParseContentID(tree)
	if err != nil {
		return nil, err
	}
	dir := treesDir(tree)
	listing, ok, err := r.file(ctx, dir+"/"+listingFile, imagemeta.DefaultLimits.Bytes)
	if err == nil && !ok {
		err = fmt.Errorf("%s/%s is not there", dir, listingFile)
	}
	if err != nil {
		return nil, err
	}
	entries, got, err := imagemeta.Decode(bytes.NewReader(listing), imagemeta.DefaultLimits)
	if err != nil {
		return nil, fmt.Errorf("listing of %s: %w", tree, err)
	}
	if got != id {
		return nil, fmt.Errorf("listing of %s: %w", tree, imagemeta.ErrMismatch)
	}
	table, ok, err := r.file(ctx, dir+"/"+objectsFile, imagemeta.DefaultLimits.Bytes)
	if err == nil && !ok {
		err = fmt.Errorf("%s/%s is not there", dir, objectsFile)
	}
	if err != nil {
		return nil, err
	}
	objects, err := imagemeta.OpenObjects(table)
	if err != nil {
		return nil, fmt.Errorf("objects of %s: %w", tree, err)
	}
	files := map[string][]byte{}
	if err := p.note(ctx, files, packages.New(), id, entries, objects.Lookup); err != nil {
		return nil, err
	}
	return p.storeFiles(ctx, files, ingest.Options{
		Compression: r.head.settings.Compression, Algorithm: r.head.settings.Algorithm,
		Workers: p.o.Workers, Chunking: ingest.DefaultChunking,
	})
}

// treesDir is where a tree's listing and objects table lie.
func treesDir(tree string) string { return "/.rootstock/trees/" + tree[:2] + "/" + tree }
