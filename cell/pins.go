package cell

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/object"
)

// pin is the tree a container stands on.
type pin struct {
	control.Container
	Catalog object.Hash `json:"catalog"`
	Size    int64       `json:"size"` // bytes of the catalog's database
}

// pinner keeps trees reachable. client.Repository is one.
type pinner interface {
	Pin(h object.Hash, size int64) (client.Tree, error)
	Unpin(h object.Hash)
}

// pins is who stands on which tree. It is written to disk before anyone relies
// on it, since containers outlive the daemon.
type pins struct {
	file string
	p    pinner

	mu       sync.Mutex
	byHandle map[string]pin
}

func loadPins(file string, p pinner) (*pins, error) {
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
		if _, err := p.Pin(one.Catalog, one.Size); err != nil {
			return nil, fmt.Errorf("pin the tree of container %s: %w", one.Handle, err)
		}
		s.byHandle[one.Handle] = one
	}
	return s, nil
}

// pin records n, replacing what its handle had.
func (s *pins) pin(n pin) error {
	if _, err := s.p.Pin(n.Catalog, n.Size); err != nil {
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
		s.p.Unpin(n.Catalog)
		return err
	}
	if had {
		s.p.Unpin(old.Catalog)
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
	s.p.Unpin(old.Catalog)
	return nil
}

func (s *pins) list() []control.Container {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]control.Container, 0, len(s.byHandle))
	for _, p := range s.byHandle {
		all = append(all, p.Container)
	}
	slices.SortFunc(all, func(a, b control.Container) int { return cmp.Compare(a.Handle, b.Handle) })
	return all
}

// on returns the handles that stand on a catalog, sorted.
func (s *pins) on(h object.Hash) (handles []string) {
	for _, t := range s.trees() {
		if t.catalog == h {
			handles = t.handles
		}
	}
	return handles
}

// pinnedTree is a tree and who stands on it.
type pinnedTree struct {
	catalog object.Hash
	size    int64 // bytes of the catalog's database
	handles []string
}

// trees returns the trees that have containers, each once.
func (s *pins) trees() (list []pinnedTree) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := map[object.Hash]int{}
	for _, p := range s.byHandle {
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
