package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/store"
)

// begin starts the transaction on top of h.
func (p *Publisher) begin(ctx context.Context, h *head) (*revision.Tx, error) {
	return revision.Begin(ctx, revision.Root{
		Hash: h.manifest.RootCatalog, Size: h.manifest.CatalogSize, Number: h.manifest.Revision,
	}, revision.Options{
		Store: p.o.Store, Algorithm: h.settings.Algorithm, Compression: h.settings.Compression,
		TempDir: p.o.TempDir, Now: p.o.Now(), MaxWeight: p.o.CatalogEntries,
	})
}

// commit makes tx the repository's next revision and returns its number. What
// says in a few words what was done.
func (p *Publisher) commit(ctx context.Context, h *head, tx *revision.Tx, what string) (uint64, error) {
	root, err := tx.Commit(ctx)
	if err != nil {
		return 0, err
	}
	next := h.manifest
	next.RootCatalog, next.CatalogSize, next.Revision = root.Hash, root.Size, root.Number
	return next.Revision, p.seal(ctx, h, next, what, func(db *history.Writer, next manifest.Manifest) error {
		if err := db.Publish(next.RootCatalog, next.Revision, next.Published, next.CatalogSize); err != nil {
			return err
		}
		return p.autoTag(db, next, what)
	})
}

// retag edits the tags of the repository; nil leaves them as they are. Next is
// the manifest under way, with the time it will carry.
type retag func(db *history.Writer, next manifest.Manifest) error

// seal signs next and makes it the repository's manifest. The order is
// CVMFS-FORMAT 5.6's: everything that is named is stored and durable before
// what names it, and the manifest comes last.
func (p *Publisher) seal(ctx context.Context, h *head, next manifest.Manifest, what string, tags retag) error {
	next.Published = max(p.o.Now().Unix(), h.manifest.Published) // never back (CVMFS-FORMAT 10.1, 14)
	dir, err := os.MkdirTemp(p.o.TempDir, "rootstock-commit-")
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer os.RemoveAll(dir)
	if tags != nil {
		if next.History, err = p.history(ctx, h, next, filepath.Join(dir, "history"), tags); err != nil {
			return fmt.Errorf("tags of revision %d: %w", next.Revision, err)
		}
	}
	if next.Certificate, err = putObject(ctx, p.o.Store, p.o.Keys.Certificate.PEM, h.settings.Algorithm, object.Certificate); err != nil {
		return err
	}
	if h.metainfo != nil {
		if next.Metainfo, err = putObject(ctx, p.o.Store, h.metainfo, h.settings.Algorithm, object.Metainfo); err != nil {
			return err
		}
	}
	refs, err := p.refer(ctx, h, next, filepath.Join(dir, "reflog"))
	if err != nil {
		return fmt.Errorf("reflog: %w", err)
	}
	next.Reflog = h.settings.Algorithm.Sum(refs)
	signed, err := next.Sign(p.o.Keys.Release, h.settings.Algorithm)
	if err != nil {
		return fmt.Errorf("sign manifest: %w", err)
	}
	if err := p.o.Store.Sync(ctx); err != nil {
		return fmt.Errorf("make revision %d durable: %w", next.Revision, err)
	}
	if err := p.replace(ctx, reflogFile, refs, maxReflog); err != nil {
		return err
	}
	if err := p.o.Store.Swap(ctx, manifestFile, h.raw, signed); err != nil {
		return fmt.Errorf("write %s: %w", manifestFile, err)
	}
	p.o.Log.Info(what, "repository", next.Name, "revision", next.Revision, "root", next.RootCatalog)
	return nil
}

// history returns the new history object: the head's, edited by tags.
func (p *Publisher) history(ctx context.Context, h *head, next manifest.Manifest, file string, tags retag) (object.Hash, error) {
	db, err := openHistory(ctx, p.o.Store, h, file)
	if err != nil {
		return object.Hash{}, err
	}
	defer db.Close()
	if err := tags(db, next); err != nil {
		return object.Hash{}, err
	}
	if err := db.Finish(h.manifest.History); err != nil {
		return object.Hash{}, err
	}
	plain, err := os.ReadFile(file)
	if err != nil {
		return object.Hash{}, err
	}
	return putObject(ctx, p.o.Store, plain, h.settings.Algorithm, object.History)
}

// openHistory opens a copy of the head's tags in file, which must not be
// there; the first revision of a repository starts with none.
func openHistory(ctx context.Context, st store.Getter, h *head, file string) (*history.Writer, error) {
	if h.manifest.History.IsZero() {
		return history.Create(file, h.manifest.Name)
	}
	if err := download(ctx, st, h.manifest.History, object.History, maxHistory, file); err != nil {
		return nil, err
	}
	return history.OpenWriter(file)
}

// refer returns the reference log with the new revision's root objects. A log
// that is missing or does not know the head is begun anew from what the head
// names: it is what garbage collection starts from, never what readers trust.
func (p *Publisher) refer(ctx context.Context, h *head, next manifest.Manifest, file string) ([]byte, error) {
	raw, err := readRoot(ctx, p.o.Store, reflogFile, maxReflog)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return nil, err
	}
	db, err := p.openReflog(raw, next.Name, file)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	now := p.o.Now().Unix()
	for _, m := range []manifest.Manifest{h.manifest, next} {
		for hash, t := range map[object.Hash]object.Type{
			m.RootCatalog: object.Catalog, m.Certificate: object.Certificate,
			m.History: object.History, m.Metainfo: object.Metainfo,
		} {
			if hash.IsZero() {
				continue
			}
			if err := db.Add(hash, t, now); err != nil {
				return nil, err
			}
		}
	}
	if err := db.Finish(); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

func (p *Publisher) openReflog(raw []byte, name, file string) (*reflog.Log, error) {
	if raw == nil {
		return reflog.Create(file, name)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, err
	}
	return reflog.Open(file)
}

// download writes the plain bytes of a zlib object to a new file.
func download(ctx context.Context, st store.Getter, h object.Hash, t object.Type, limit int64, file string) error {
	var plain bytes.Buffer
	if err := readObject(ctx, st, &plain, h, t, limit); err != nil {
		return err
	}
	return os.WriteFile(file, plain.Bytes(), 0o600)
}
