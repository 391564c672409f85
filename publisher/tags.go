package publisher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/store"
)

// Tags returns the tags of a repository, youngest first. It believes the store,
// as [List] does.
func Tags(ctx context.Context, st store.Store, tempDir string) ([]history.Tag, error) {
	h, err := readHead(ctx, st)
	if err != nil {
		return nil, err
	}
	return readTags(ctx, st, h, tempDir)
}

func readTags(ctx context.Context, st store.Getter, h *head, tempDir string) ([]history.Tag, error) {
	if h.manifest.History.IsZero() {
		return nil, nil
	}
	dir, err := os.MkdirTemp(tempDir, "rootstock-history-")
	if err != nil {
		return nil, fmt.Errorf("read tags: %w", err)
	}
	defer os.RemoveAll(dir)
	db, err := openHistory(ctx, st, h, filepath.Join(dir, "history"))
	if err != nil {
		return nil, fmt.Errorf("read tags: %w", err)
	}
	defer db.Close()
	return db.List()
}

// Tag gives the newest revision a name. The revision stays what it is. A name
// that is taken is an error that wraps [history.ErrExist].
func (p *Publisher) Tag(ctx context.Context, name, description string) (history.Tag, error) {
	var t history.Tag
	err := p.checkTag(name)
	if err == nil {
		err = p.editTags(ctx, "tag "+name, func(db *history.Writer, next manifest.Manifest) error {
			t = history.Tag{
				Name: name, Root: next.RootCatalog, Revision: next.Revision, Timestamp: next.Published,
				Size: next.CatalogSize, Description: description,
			}
			err := db.Add(t)
			if errors.Is(err, history.ErrExist) {
				return fmt.Errorf("%w; rootstock tag --remove %s makes the name free", err, name)
			}
			return err
		})
	}
	if err != nil {
		return t, fmt.Errorf("tag %s: %w", name, err)
	}
	return t, nil
}

// RemoveTags removes tags, all of them or none. What they named stays until it
// is collected.
func (p *Publisher) RemoveTags(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := p.checkTag(name); err != nil {
			return fmt.Errorf("remove tag %s: %w", name, err)
		}
	}
	return p.editTags(ctx, "remove tags", func(db *history.Writer, _ manifest.Manifest) error {
		for _, name := range names {
			if err := db.Remove(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkTag refuses names that are no tag's, and those that move by themselves.
func (p *Publisher) checkTag(name string) error {
	if name == history.Trunk || name == history.TrunkPrevious {
		return fmt.Errorf("%w: publishing moves %s by itself", history.ErrInvalid, name)
	}
	return history.CheckName(name)
}

// RolledBack says what a rollback came to.
type RolledBack struct {
	To       string
	From     uint64 // the revision that was the newest
	Was      uint64 // the revision the tag named
	Revision uint64 // the new one, which shows the same
	// Removed are the tags of revisions younger than the one gone back to.
	Removed []history.Tag
}

// Rollback makes the whole repository, channels and tags included, what it was
// at a tag, as a new revision (CVMFS-FORMAT 3.2). Tags of younger revisions are
// removed. It returns an error that wraps [history.ErrNotExist] if there is no
// such tag.
func (p *Publisher) Rollback(ctx context.Context, name string) (*RolledBack, error) {
	r, err := p.rollback(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("roll back to %s: %w", name, err)
	}
	return r, nil
}

func (p *Publisher) rollback(ctx context.Context, name string) (*RolledBack, error) {
	what := "roll back to " + name
	h, unlock, err := p.locked(ctx, what)
	if err != nil {
		return nil, err
	}
	defer unlock()
	to, err := p.target(ctx, h, name)
	if err != nil {
		return nil, err
	}
	next := h.manifest
	root, err := p.again(ctx, h, to)
	if err != nil {
		return nil, err
	}
	next.RootCatalog, next.CatalogSize, next.Revision = root.Hash, root.Size, root.Number
	r := &RolledBack{To: name, From: h.manifest.Revision, Was: to.Revision, Revision: root.Number}
	return r, p.seal(ctx, h, next, what, func(db *history.Writer, next manifest.Manifest) (err error) {
		r.Removed, err = db.Rollback(to, history.Tag{
			Root: next.RootCatalog, Revision: next.Revision, Timestamp: next.Published, Size: next.CatalogSize,
		})
		return err
	})
}

// target finds the tag to go back to.
func (p *Publisher) target(ctx context.Context, h *head, name string) (history.Tag, error) {
	tags, err := readTags(ctx, p.o.Store, h, p.o.TempDir)
	if err != nil {
		return history.Tag{}, err
	}
	for _, t := range tags {
		switch {
		case t.Name != name:
		case t.Branch != "":
			return t, fmt.Errorf("it is on branch %s; only the default branch can be rolled back", t.Branch)
		case t.Revision >= h.manifest.Revision:
			return t, fmt.Errorf("it is the newest revision, %d, already", t.Revision)
		default:
			return t, nil
		}
	}
	return history.Tag{}, fmt.Errorf("%w; rootstock tag --list shows those that are there", history.ErrNotExist)
}

// again stores the tag's root catalog as the successor of the head's.
func (p *Publisher) again(ctx context.Context, h *head, to history.Tag) (revision.Root, error) {
	tx, err := revision.Begin(ctx, revision.Root{Hash: to.Root, Size: to.Size}, revision.Options{
		Store: p.o.Store, Algorithm: h.settings.Algorithm, Compression: h.settings.Compression,
		TempDir: p.o.TempDir, Now: p.o.Now(),
	})
	if errors.Is(err, store.ErrNotExist) {
		return revision.Root{}, fmt.Errorf("%w; garbage collection has taken revision %d", err, to.Revision)
	}
	if err != nil {
		return revision.Root{}, err
	}
	defer tx.Close()
	tx.Succeed(revision.Root{Hash: h.manifest.RootCatalog, Number: h.manifest.Revision})
	return tx.Commit(ctx)
}
