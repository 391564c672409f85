package cell

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

// FixedPin is what an operator had pinned: everything that lay below a path at
// that time is evicted last, whatever becomes of the path.
type FixedPin struct {
	Repository string    `json:"repository"`
	Path       string    `json:"path"` // links resolved
	Contents   int       `json:"contents"`
	Since      time.Time `json:"since"`

	Catalog object.Hash `json:"catalog"`
	Size    int64       `json:"catalog_bytes"`
	Below   string      `json:"below,omitempty"` // path below the catalog's root
}

// fixedPins are written to disk, since the cache's own pins end with the process.
type fixedPins struct {
	file string
	mu   sync.Mutex
	all  []*heldPin
}

type heldPin struct {
	FixedPin
	m    *mounted
	keys []cache.Key
}

func (p *fixedPins) list() []FixedPin {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]FixedPin, len(p.all))
	for i, h := range p.all {
		list[i] = h.FixedPin
	}
	slices.SortFunc(list, func(a, b FixedPin) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Path, b.Path))
	})
	return list
}

// save is called with mu held.
func (p *fixedPins) save() error {
	list := make([]FixedPin, len(p.all))
	for i, h := range p.all {
		list[i] = h.FixedPin
	}
	raw, err := json.Marshal(list)
	if err == nil {
		err = renameio.WriteFile(p.file, raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("record of pinned paths: %w", err)
	}
	return nil
}

// loadFixedPins pins again what was pinned. What cannot be found any more stays
// on record: its servers may be back at the next start.
func (c *Cell) loadFixedPins() error {
	c.fixed.file = filepath.Join(c.cache.Dir(), "state", "pins.json")
	raw, err := os.ReadFile(c.fixed.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list []FixedPin
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return fmt.Errorf("record of pinned paths: %w", err)
	}
	for _, one := range list {
		h := &heldPin{FixedPin: one}
		c.fixed.all = append(c.fixed.all, h)
		m, err := c.repository(one.Repository)
		if err == nil {
			err = h.hold(context.Background(), m)
		}
		if err != nil {
			c.o.Log.Warn("pinned path is not protected from eviction", "path", one.Path, "repository", one.Repository, "error", err)
		}
	}
	return nil
}

// hold pins everything in the cache.
func (h *heldPin) hold(ctx context.Context, m *mounted) error {
	tree, err := m.repo.Pin(h.Catalog, h.Size)
	if err != nil {
		return err
	}
	at, err := m.locate(ctx, tree.Path+h.Below)
	if err == nil {
		h.keys, err = m.keysBelow(ctx, at.node)
	}
	if err != nil {
		m.repo.Unpin(h.Catalog)
		return err
	}
	h.m = m
	for _, k := range h.keys {
		m.cell.cache.Pin(k)
	}
	h.Contents = len(h.keys)
	return nil
}

func (h *heldPin) drop() {
	if h.m == nil {
		return
	}
	for _, k := range h.keys {
		h.m.cell.cache.Unpin(k)
	}
	h.m.repo.Unpin(h.Catalog)
	h.m, h.keys = nil, nil
}

func (c *Cell) pin(ctx context.Context, p Paths) ([]FixedPin, error) {
	var list []FixedPin
	for _, text := range p.Paths {
		at, err := c.locate(ctx, text)
		if err != nil {
			return nil, err
		}
		tree, below, err := at.m.holder(ctx, at.path)
		if err != nil {
			return nil, kind(err)
		}
		h := &heldPin{FixedPin: FixedPin{
			Repository: at.m.o.Name, Path: at.path, Since: c.o.Clock().UTC(),
			Catalog: tree.Catalog, Size: tree.Size, Below: below,
		}}
		if err := h.hold(ctx, at.m); err != nil {
			return nil, kind(fmt.Errorf("pin %s: %w", text, err))
		}
		if err := c.fixed.replace(h); err != nil {
			return nil, err
		}
		list = append(list, h.FixedPin)
	}
	return list, nil
}

// replace records h in the place of what was pinned at its path. It is dropped
// if it cannot be recorded.
func (p *fixedPins) replace(h *heldPin) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.all
	var old *heldPin
	p.all = make([]*heldPin, 0, len(before)+1)
	for _, x := range before {
		if x.Repository == h.Repository && x.Path == h.Path {
			old = x
			continue
		}
		p.all = append(p.all, x)
	}
	p.all = append(p.all, h)
	if err := p.save(); err != nil {
		p.all = before
		h.drop()
		return err
	}
	if old != nil {
		old.drop()
	}
	return nil
}

// unpin finds pins by their recorded path too: what it names may be gone.
func (c *Cell) unpin(ctx context.Context, p Paths) ([]FixedPin, error) {
	var list []FixedPin
	for _, text := range p.Paths {
		repository, name := "", text
		if at, err := c.locate(ctx, text); err == nil {
			repository, name = at.m.o.Name, at.path
		}
		gone, err := c.fixed.remove(repository, name)
		if err != nil {
			return nil, err
		}
		if len(gone) == 0 {
			return nil, fmt.Errorf("%w: %s is not pinned", control.ErrNotFound, text)
		}
		list = append(list, gone...)
	}
	return list, nil
}

func (p *fixedPins) remove(repository, name string) (gone []FixedPin, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.all
	var dropped []*heldPin
	p.all = nil
	for _, x := range before {
		if x.Path == name && (repository == "" || repository == x.Repository) {
			dropped = append(dropped, x)
			gone = append(gone, x.FixedPin)
			continue
		}
		p.all = append(p.all, x)
	}
	if len(dropped) == 0 {
		return nil, nil
	}
	if err := p.save(); err != nil {
		p.all = before
		return nil, err
	}
	for _, x := range dropped {
		x.drop()
	}
	return gone, nil
}
