package cell

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/object"
)

// pin is the tree a container stands on.
type pin struct {
	control.Container
	// Image says that it is the image of Tree, or of Compiled; otherwise it is
	// the tree of a catalog.
	Image   bool        `json:"image,omitempty"`
	Catalog object.Hash `json:"catalog,omitzero"`
	Size    int64       `json:"size,omitempty"` // bytes of the catalog's database
	// Compiled is what the directory Below the catalog's root was made into.
	Compiled string `json:"compiled,omitempty"`
	Below    string `json:"below,omitempty"`
	// Droplet is the digest of what was put on top; empty for nothing.
	Droplet string `json:"droplet,omitempty"`
}

// pinner keeps trees reachable.
type pinner interface {
	pin(ctx context.Context, n pin) error
	unpin(n pin)
}

// standing keeps the trees of one repository reachable.
type standing struct {
	repo   *client.Repository
	images *image.Tier // nil without an image tier
}

func (s standing) pin(ctx context.Context, n pin) error {
	if n.ofCatalog() {
		if _, err := s.repo.Pin(n.Catalog, n.Size); err != nil || !n.Image {
			return err
		}
	}
	id, err := object.ParseContentID(n.image())
	if err != nil {
		return err
	}
	// Without the tier, what is left of it below containers that were
	// created with it is the kernel's alone.
	if s.images != nil {
		s.images.Hold(ctx, s.repo, id, n.directory())
	}
	return nil
}

func (s standing) unpin(n pin) {
	if n.ofCatalog() {
		s.repo.Unpin(n.Catalog)
	}
	if id, err := object.ParseContentID(n.image()); err == nil && n.Image && s.images != nil {
		s.images.Release(s.repo, id)
	}
}

// ofCatalog reports whether a catalog has to be kept for it.
func (n *pin) ofCatalog() bool { return !n.Image || n.Compiled != "" }

// image is the id of what Image says.
func (n *pin) image() string { return cmp.Or(n.Compiled, n.Tree) }

// directory is what was compiled, nil for a published tree.
func (n *pin) directory() *client.Directory {
	if n.Compiled == "" {
		return nil
	}
	return &client.Directory{Catalog: n.Catalog, Size: n.Size, Path: n.Below}
}

// pins is who stands on which tree. It is written to disk before anyone relies
// on it, since containers outlive the daemon.
type pins struct {
	file string
	p    pinner
	// gone is told of each pin that is released, if it is not nil.
	gone func(pin)

	mu       sync.Mutex
	byHandle map[string]pin
}

func loadPins(ctx context.Context, file string, p pinner) (*pins, error) {
	s := &pins{file: file, p: p, byHandle: map[string]pin{}}
	raw, err := os.ReadFile(file) // #nosec G304 -- our own directory
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	var all []pin
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("record of containers' trees: %w", err)
	}
	for _, one := range all {
		if err := p.pin(ctx, one); err != nil {
			s.letGo()
			return nil, fmt.Errorf("pin the tree of container %s: %w", one.Handle, err)
		}
		s.byHandle[one.Handle] = one
	}
	return s, nil
}

// pin records n, replacing what its handle had.
func (s *pins) pin(ctx context.Context, n pin) error {
	if err := s.p.pin(ctx, n); err != nil {
		return fmt.Errorf("pin the tree of container %s: %w", n.Handle, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, had := s.byHandle[n.Handle]
	s.byHandle[n.Handle] = n
	if err := s.save(); err != nil {
		delete(s.byHandle, n.Handle)
		if had {
			s.byHandle[n.Handle] = old
		}
		s.p.unpin(n)
		return err
	}
	if had {
		s.p.unpin(old)
	}
	return nil
}

// release forgets a handle; one that has nothing is no error.
func (s *pins) release(handle string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, had := s.byHandle[handle]
	if !had {
		return nil
	}
	delete(s.byHandle, handle)
	if err := s.save(); err != nil {
		s.byHandle[handle] = old
		return err
	}
	s.p.unpin(old)
	if s.gone != nil {
		s.gone(old)
	}
	return nil
}

// all returns every pin, by handle.
func (s *pins) all() []pin {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]pin, 0, len(s.byHandle))
	for _, p := range s.byHandle {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pin) int { return cmp.Compare(a.Handle, b.Handle) })
	return all
}

func (s *pins) list() []control.Container {
	all := s.all()
	list := make([]control.Container, len(all))
	for i := range all {
		list[i] = all[i].Container
	}
	return list
}

// on returns the handles that stand on a tree, as an image by its id or as that
// of a catalog, sorted.
func (s *pins) on(tree string, h object.Hash) (handles []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.byHandle {
		if p.Image && p.image() == tree || p.ofCatalog() && p.Catalog == h {
			handles = append(handles, p.Handle)
		}
	}
	slices.Sort(handles)
	return handles
}

// pinnedTree is a tree and who stands on it.
type pinnedTree struct {
	catalog object.Hash
	size    int64 // bytes of the catalog's database
	handles []string
}

// trees returns the trees of catalogs that have containers, each once.
func (s *pins) trees() (list []pinnedTree) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := map[object.Hash]int{}
	for _, p := range s.byHandle {
		if p.Image {
			continue
		}
		i, ok := at[p.Catalog]
		if !ok {
			i = len(list)
			at[p.Catalog] = i
			list = append(list, pinnedTree{catalog: p.Catalog, size: p.Size})
		}
		list[i].handles = append(list[i].handles, p.Handle)
	}
	for _, t := range list {
		slices.Sort(t.handles)
	}
	return list
}

// letGo unpins everything and keeps the record, for whoever loads it next.
func (s *pins) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.byHandle {
		s.p.unpin(p)
	}
	clear(s.byHandle)
}

// save writes all pins. Callers hold mu.
func (s *pins) save() error {
	all := make([]pin, 0, len(s.byHandle))
	for _, p := range s.byHandle {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pin) int { return cmp.Compare(a.Handle, b.Handle) })
	raw, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("record of containers' trees: %w", err)
	}
	if err := renameio.WriteFile(s.file, raw, 0o600); err != nil {
		return fmt.Errorf("record of containers' trees: %w", err)
	}
	return nil
}
