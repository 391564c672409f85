package client

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
)

// slot is a catalog attached at a place. The same catalog at two places is two
// slots, since a kernel takes one directory node in two places for a move.
type slot struct {
	id    uint32
	cat   *cat
	mount string // where it is attached: a path of the view
	// prefix is the root prefix its catalog must have, unless any.
	prefix string
	any    bool
	sound  atomic.Bool // prefix has been compared

	mu     sync.RWMutex
	nested map[uint32]*slot // by row of the mountpoint
}

const rowBits = 32

func (s *slot) node(row uint32) view.Node { return view.Node(s.id)<<rowBits | view.Node(row) }

// slots gives out numbers, from 1, and never takes one back.
type slots struct {
	list atomic.Pointer[[]*slot] // by number; grows
	mu   sync.Mutex
	key  map[slotKey]*slot
	keep func(x *slot) // before a slot is handed out
}

type slotKey struct {
	hash  object.Hash
	mount string
}

// maxSlots keeps node ids within view.MaxNode and the virtual slot apart.
const maxSlots = 1<<31 - 1

func (s *slots) init() {
	s.key = map[slotKey]*slot{}
	s.list.Store(&[]*slot{nil})
}

// maxGap is how many numbers may be missing in a row: as many as a disk that is
// full for long loses.
const maxGap = 1 << 16

// put puts back a slot that another process gave out. Numbers that are missing
// stay nil: what they meant is not known, and nobody gets them.
func (s *slots) put(x *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := *s.list.Load()
	if int64(x.id) > int64(len(list))+maxGap {
		return
	}
	for int64(len(list)) <= int64(x.id) {
		list = append(list, nil)
	}
	list[x.id] = x
	s.key[slotKey{x.cat.hash, x.mount}] = x
	s.list.Store(&list)
}

// largest bounds the node ids given out so far.
func (s *slots) largest() uint64 { return uint64(len(*s.list.Load())) << rowBits }

// at returns the slot of a number that was given out, or nil.
func (s *slots) at(id uint32) *slot {
	list := *s.list.Load()
	if int64(id) >= int64(len(list)) {
		return nil
	}
	return list[id]
}

// get returns the slot of a catalog at a mount.
func (s *slots) get(c *cat, mount, prefix string, anyPrefix bool) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := slotKey{c.hash, mount}
	if x, ok := s.key[k]; ok {
		return x, nil
	}
	list := *s.list.Load()
	if len(list) >= maxSlots {
		return nil, fmt.Errorf("%w: too many catalogs", ErrInconsistent)
	}
	x := &slot{id: uint32(len(list)), cat: c, mount: mount, prefix: prefix, any: anyPrefix} // #nosec G115 -- bounded above
	if s.keep != nil {
		s.keep(x)
	}
	list = append(list, x)
	s.key[k] = x
	s.list.Store(&list)
	return x, nil
}

// byHash finds a slot of a catalog, wherever it is attached.
func (s *slots) byHash(h object.Hash) (*slot, bool) {
	for _, x := range (*s.list.Load())[1:] {
		if x != nil && x.cat.hash == h {
			return x, true
		}
	}
	return nil, false
}

// child returns the slot of the catalog mounted at a row of s, whose index is
// x.
func (r *Repository) child(s *slot, x *catalog.Index, row uint32, bind bool) (*slot, error) {
	s.mu.RLock()
	c := s.nested[row]
	s.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	n, ok := x.NestedAt(row)
	if !ok || n.Hash.IsZero() {
		return nil, fmt.Errorf("%w: %s%s is a mountpoint of no catalog", ErrInconsistent, s.mount, x.Path(row))
	}
	rest, ok := strings.CutPrefix(n.Path, x.RootPrefix())
	if !ok || rest == "" || rest[0] != '/' {
		return nil, fmt.Errorf("%w: catalog %s lies at %q, outside of %q", ErrInconsistent, n.Hash, n.Path, x.RootPrefix())
	}
	c, err := r.slots.get(r.catalogs.of(n.Hash, n.Size), s.mount+rest, n.Path, bind)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nested == nil {
		s.nested = map[uint32]*slot{}
	}
	s.nested[row] = c
	return c, nil
}
