package publisher

import (
	"context"
	"errors"
	"fmt"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/store"
)

// Revision is one of a repository's revisions.
type Revision struct {
	Number uint64
	Root   object.Hash
	Size   int64 // bytes of the root catalog, uncompressed; 0 if unknown
	// Time is when it was published, in UNIX seconds.
	Time int64
	Tags []history.Tag
}

// History returns up to limit revisions, newest first; 0 returns all. It
// follows each root catalog to the one before, so it ends where garbage
// collection has taken one, and adds what tags name beyond. It believes the
// store, as [List] does.
func History(ctx context.Context, st store.Store, tempDir string, limit int) ([]Revision, error) {
	h, err := readHead(ctx, st)
	if err != nil {
		return nil, err
	}
	tags, err := readTags(ctx, st, h, tempDir)
	if err != nil {
		return nil, err
	}
	named := map[object.Hash][]history.Tag{}
	for _, t := range tags {
		named[t.Root] = append(named[t.Root], t)
	}
	o := revision.Options{Store: st, Algorithm: h.settings.Algorithm, Compression: h.settings.Compression, TempDir: tempDir}
	var all []Revision
	size := h.manifest.CatalogSize
	for root := h.manifest.RootCatalog; !root.IsZero() && (limit == 0 || len(all) < limit); {
		about, err := revision.Describe(ctx, revision.Root{Hash: root, Size: size}, o)
		if errors.Is(err, store.ErrNotExist) && len(all) > 0 {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
		all = append(all, Revision{Number: about.Number, Root: root, Size: about.Size, Time: about.LastModified, Tags: named[root]})
		delete(named, root)
		root, size = about.Previous, 0
	}
	for _, t := range tags {
		if named[t.Root] == nil || limit > 0 && len(all) >= limit {
			continue
		}
		all = append(all, Revision{Number: t.Revision, Root: t.Root, Size: t.Size, Time: t.Timestamp, Tags: named[t.Root]})
		delete(named, t.Root)
	}
	return all, nil
}
