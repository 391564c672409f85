package gc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/stored"
	"github.com/rootstock-cf/rootstock/store"
)

// head is the manifest as the run finds it.
type head struct {
	raw      []byte
	manifest manifest.Manifest
}

// readHead reads the manifest and proves that these keys signed it: collecting
// signs it anew.
func readHead(ctx context.Context, st store.Getter, keys *manifest.Keys) (*head, error) {
	raw, err := stored.Root(ctx, st, stored.ManifestFile, stored.MaxRootFile)
	if err != nil {
		return nil, err
	}
	m, err := manifest.OpenSigned(raw, keys.Certificate)
	if err != nil {
		return nil, fmt.Errorf("%s was not signed with these keys; use those that publish: %w", stored.ManifestFile, err)
	}
	if m.Name != keys.Name {
		return nil, fmt.Errorf("the store holds %s, the keys are those of %s", m.Name, keys.Name)
	}
	if !m.GarbageCollectable {
		return nil, fmt.Errorf("%s: %w", m.Name, ErrNotCollectable)
	}
	return &head{raw, m}, nil
}

// readReflog returns what the repository remembers of its root objects, oldest
// first; nothing if it has no such file.
func (c *collector) readReflog(ctx context.Context) ([]reflog.Ref, error) {
	raw, err := stored.Root(ctx, c.st, stored.ReflogFile, stored.MaxReflog)
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	file := filepath.Join(c.dir, "reflog")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, fmt.Errorf("read %s: %w", stored.ReflogFile, err)
	}
	l, err := reflog.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", stored.ReflogFile, err)
	}
	defer l.Close()
	if l.FQRN() != c.head.manifest.Name {
		return nil, fmt.Errorf("read %s: it is that of %s, not of %s", stored.ReflogFile, l.FQRN(), c.head.manifest.Name)
	}
	return l.List()
}

// tags returns the root catalogs that have a name.
func (c *collector) tags(ctx context.Context) ([]history.Tag, error) {
	h := c.head.manifest.History
	if h.IsZero() {
		return nil, nil
	}
	var plain bytes.Buffer
	if err := stored.Object(ctx, c.st, &plain, h, object.History, stored.MaxHistory); err != nil {
		return nil, err
	}
	file := filepath.Join(c.dir, "history")
	if err := os.WriteFile(file, plain.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	db, err := history.Open(file)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return db.List()
}

// rewriteReflog takes off the reflog what is not marked and makes the manifest
// name the new one. It comes before the sweep: no list names what is gone.
func (c *collector) rewriteReflog(ctx context.Context, log []reflog.Ref) error {
	file := filepath.Join(c.dir, "reflog-next")
	l, err := reflog.Create(file, c.head.manifest.Name)
	if err != nil {
		return err
	}
	defer l.Close()
	listed := map[object.Hash]bool{}
	for _, ref := range log {
		listed[ref.Hash] = true
		if !c.marks.keeps(ref.Hash) {
			if ref.Type == object.Catalog {
				c.r.RevisionsDropped++
			}
			continue
		}
		if err := l.Add(ref.Hash, ref.Type, ref.Timestamp); err != nil {
			return err
		}
	}
	m := c.head.manifest
	for _, ref := range []reflog.Ref{
		{Hash: m.RootCatalog, Type: object.Catalog},
		{Hash: m.Certificate, Type: object.Certificate},
		{Hash: m.History, Type: object.History},
		{Hash: m.Metainfo, Type: object.Metainfo},
	} {
		if ref.Hash.IsZero() || listed[ref.Hash] {
			continue
		}
		if err := l.Add(ref.Hash, ref.Type, c.now.Unix()); err != nil {
			return err
		}
	}
	if err := l.Finish(); err != nil {
		return err
	}
	if c.o.DryRun {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reflog: %w", err)
	}
	return c.swapReflog(ctx, raw)
}

// swapReflog writes the reflog and the manifest that names it. The revision
// stays: as after a change of tags, nothing a client shows is another.
func (c *collector) swapReflog(ctx context.Context, raw []byte) error {
	next := c.head.manifest
	algorithm := next.RootCatalog.Algorithm
	next.Reflog = algorithm.Sum(raw)
	old, err := stored.Root(ctx, c.st, stored.ReflogFile, stored.MaxReflog)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return err
	}
	if !slices.Equal(old, raw) || old == nil {
		if err := c.st.Swap(ctx, stored.ReflogFile, old, raw); err != nil {
			return fmt.Errorf("write %s: %w", stored.ReflogFile, err)
		}
	}
	if c.o.Keys == nil || next.Reflog == c.head.manifest.Reflog {
		return nil
	}
	signed, err := next.Sign(c.o.Keys.Release, algorithm)
	if err != nil {
		return fmt.Errorf("sign manifest: %w", err)
	}
	if err := c.st.Swap(ctx, stored.ManifestFile, c.head.raw, signed); err != nil {
		return fmt.Errorf("write %s: %w", stored.ManifestFile, err)
	}
	return nil
}
