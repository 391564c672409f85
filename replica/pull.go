package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// reading bounds the catalogs that are read, and whose objects are handed out,
// at a time.
const reading = 4

// pull is one run.
type pull struct {
	o        Options
	dir      string // for catalogs
	copier   *copier
	workers  chan struct{}
	readers  chan struct{}
	collects bool // the source collects garbage: old revisions may be gone
	trusted  bool // a catalog in the store means that all below it is there
	only     *selection

	objects, bytes, catalogs atomic.Int64

	mu      sync.Mutex
	trees   map[string]*tree // by catalog and path
	skipped []string
}

// tree is a catalog with all below it, on its way.
type tree struct {
	done     chan struct{}
	err      error
	previous object.Hash // of the catalog, once done; null where it was there
}

func newPull(o Options, dir string, collects bool) *pull {
	p := &pull{
		o: o, dir: dir, collects: collects, workers: make(chan struct{}, o.Workers),
		readers: make(chan struct{}, reading), trees: map[string]*tree{},
	}
	p.copier = newCopier(o.From, o.To, func(n int) {
		p.objects.Add(1)
		p.bytes.Add(int64(n))
		o.Progress.Objects.Add(1)
		o.Progress.Bytes.Add(int64(n))
	})
	return p
}

// everything copies what the head refers to and returns the root catalogs that
// the replica has, as far as this run saw them.
func (p *pull) everything(ctx context.Context, h *head, old *before) ([]object.Hash, error) {
	m := h.manifest
	for _, x := range []struct {
		ref
		limit int64
	}{
		{ref{m.Certificate, object.Certificate}, maxCertificate},
		{ref{m.Metainfo, object.Metainfo}, maxMetainfo},
		{ref{m.History, object.History}, maxHistory},
	} {
		if x.hash.IsZero() {
			continue
		}
		if err := p.copier.object(ctx, x.ref, x.limit); err != nil {
			return nil, err
		}
	}
	if len(p.o.Only) > 0 {
		var err error
		if p.only, err = p.selectTrees(ctx, m.RootCatalog, m.CatalogSize); err != nil {
			return nil, err
		}
	}
	if err := p.tree(ctx, "", m.RootCatalog, m.CatalogSize); err != nil {
		return nil, err
	}
	roots := []object.Hash{m.RootCatalog}
	if p.only != nil {
		return roots, nil
	}
	older, err := p.predecessors(ctx, m.RootCatalog, old)
	if err != nil {
		return nil, err
	}
	tagged, err := p.tags(ctx, m.History)
	if err != nil {
		return nil, err
	}
	return append(append(roots, older...), tagged...), nil
}

// predecessors copies the revisions between the replica's last one and the new
// one, for who is still reading them; not for a first copy, as stock does.
func (p *pull) predecessors(ctx context.Context, root object.Hash, old *before) (roots []object.Hash, err error) {
	if old.raw == nil || !p.trusted {
		return nil, nil
	}
	for {
		root = p.predecessor(root)
		if root.IsZero() {
			return roots, nil
		}
		_, there, err := p.o.To.Has(ctx, object.Path(root, object.Catalog))
		if err != nil {
			return nil, err
		}
		if there {
			return roots, nil
		}
		err = p.tree(ctx, "", root, 0)
		if errors.Is(err, fetch.ErrNotFound) && p.collects {
			return roots, nil // collected meanwhile, and so are all before it
		}
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
}

// predecessor is the revision before a root catalog that this run has copied.
func (p *pull) predecessor(root object.Hash) object.Hash {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.trees[treeKey("", root)]; t != nil {
		return t.previous
	}
	return object.Hash{}
}

// tags copies the root catalogs that have names.
func (p *pull) tags(ctx context.Context, h object.Hash) (roots []object.Hash, err error) {
	if h.IsZero() {
		return nil, nil
	}
	file := filepath.Join(p.dir, "history")
	if err := p.plain(ctx, ref{h, object.History}, maxHistory, file); err != nil {
		return nil, err
	}
	db, err := history.Open(file)
	if err != nil {
		return nil, err
	}
	list, err := db.List()
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		err := p.tree(ctx, "", t.Root, t.Size)
		if errors.Is(err, fetch.ErrNotFound) && p.collects {
			p.mu.Lock()
			p.skipped = append(p.skipped, "tag "+t.Name)
			p.mu.Unlock()
			p.o.Log.Warn("tag left out: the source has collected it", "tag", t.Name, "cause", err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("tag %s: %w", t.Name, err)
		}
		if !slices.Contains(roots, t.Root) {
			roots = append(roots, t.Root)
		}
	}
	return roots, nil
}

// plain writes the plain bytes of a zlib object that the store has, or else
// the source, to a new file.
func (p *pull) plain(ctx context.Context, r ref, limit int64, file string) error {
	var b memory
	want := codec.Expect{Hash: r.hash, Size: -1, Limit: limit}
	if in, err := p.o.To.Get(ctx, r.name()); err == nil {
		_, err = codec.Decode(&b, in, want)
		in.Close()
		if err == nil {
			return os.WriteFile(file, b.Bytes(), 0o600)
		}
		b.Buffer.Reset()
	}
	if err := fetch.Object(ctx, p.o.From, r.typ, want, &b); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o600)
}

func treeKey(path string, h object.Hash) string { return path + "\x00" + h.String() }

// tree copies a catalog attached at path and all that is below it.
func (p *pull) tree(ctx context.Context, path string, h object.Hash, size int64) error {
	key := treeKey(path, h)
	p.mu.Lock()
	t := p.trees[key]
	if t != nil {
		p.mu.Unlock()
		select {
		case <-t.done:
			return t.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t = &tree{done: make(chan struct{})}
	p.trees[key] = t
	p.mu.Unlock()
	t.err = p.copyTree(ctx, t, path, h, size)
	close(t.done)
	return t.err
}

func (p *pull) copyTree(ctx context.Context, t *tree, path string, h object.Hash, size int64) error {
	r := ref{h, object.Catalog}
	_, there, err := p.o.To.Has(ctx, r.name())
	if err != nil {
		return err
	}
	onTheWay := p.only.onTheWay(path)
	if there && p.trusted && !onTheWay {
		return nil
	}
	group, gctx := errgroup.WithContext(ctx)
	nested, stored, err := p.read(gctx, group, t, path, r, size)
	if err == nil {
		for _, n := range nested {
			group.Go(func() error {
				if err := p.tree(gctx, n.Path, n.Hash, n.Size); err != nil {
					return fmt.Errorf("catalog at %s: %w", n.Path, err)
				}
				return nil
			})
		}
	}
	// Whatever failed first is the cause of all that followed.
	if gerr := group.Wait(); gerr != nil {
		return gerr
	}
	if err != nil {
		return err
	}
	if there {
		return nil
	}
	b, err := os.ReadFile(stored)
	if err != nil {
		return err
	}
	if err := p.copier.put(ctx, r, b); err != nil {
		return err
	}
	p.catalogs.Add(1)
	return os.Remove(stored)
}

// read fetches a catalog, hands its objects to the group, and returns the
// catalogs below and the file that has its stored bytes.
func (p *pull) read(ctx context.Context, group *errgroup.Group, t *tree, path string, r ref, size int64) (nested []catalog.Nested, stored string, err error) {
	select {
	case p.readers <- struct{}{}:
		defer func() { <-p.readers }()
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	limit := int64(maxCatalog)
	if size > 0 {
		limit = min(size, limit)
	}
	var b memory
	if err := p.copier.fetch(ctx, r, bound(limit), &b); err != nil {
		return nil, "", err
	}
	file, err := os.CreateTemp(p.dir, "catalog-")
	if err != nil {
		return nil, "", err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // the directory goes with all it holds
	_, err = codec.Decode(file, bytes.NewReader(b.Bytes()), codec.Expect{Hash: r.hash, Size: -1, Limit: limit})
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, "", fmt.Errorf("catalog %s: %w", r.name(), err)
	}
	stored = file.Name() + ".stored"
	if err := os.WriteFile(stored, b.Bytes(), 0o600); err != nil {
		return nil, "", err
	}
	c, err := catalog.OpenReader(file.Name())
	if err != nil {
		return nil, "", fmt.Errorf("catalog %s: %w", r.name(), err)
	}
	defer c.Close()
	if path == "" {
		t.previous = c.Previous()
	}
	if nested, err = p.hand(ctx, group, c, path); err != nil {
		return nil, "", fmt.Errorf("catalog %s: %w", r.name(), err)
	}
	return nested, stored, nil
}

// hand gives the group the objects of a catalog to copy, and returns the
// catalogs below.
func (p *pull) hand(ctx context.Context, group *errgroup.Group, c *catalog.Reader, path string) ([]catalog.Nested, error) {
	wanted, err := p.only.rows(ctx, c, path)
	if err != nil {
		return nil, err
	}
	err = c.Scan(ctx, func(row catalog.Row) error {
		if !row.IsRegular() || row.Flags&catalog.External != 0 || !wanted(&row) {
			return nil
		}
		if !row.Hash.IsZero() {
			if err := p.start(ctx, group, ref{row.Hash, object.Bulk}, row.Size); err != nil {
				return err
			}
		}
		for _, chunk := range row.Chunks {
			if err := p.start(ctx, group, ref{chunk.Hash, object.Partial}, chunk.Size); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	nested, err := c.Nested()
	return slices.DeleteFunc(nested, func(n catalog.Nested) bool { return n.Hash.IsZero() || !p.only.descend(n.Path) }), err
}

// start copies an object beside the caller as soon as a worker is free.
func (p *pull) start(ctx context.Context, group *errgroup.Group, r ref, plain int64) error {
	select {
	case p.workers <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	group.Go(func() error {
		defer func() { <-p.workers }()
		return p.copier.object(ctx, r, plain)
	})
	return nil
}
