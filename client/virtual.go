package client

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
)

// The virtual directories /.cvmfs and /.cvmfs/roots, which no catalog has and
// no listing shows. The latter holds the tree of any catalog by its hash, as
// long as something vouches that it is one of this repository: it was reached
// from a verified root, or was pinned. It is what a container's lower is: the
// tree stays what it is, whatever becomes of the path it was found at.
const (
	virtualSlot             = 1<<31 - 1
	dotCvmfs      view.Node = virtualSlot<<rowBits | 1
	rootsNode     view.Node = virtualSlot<<rowBits | 2
	dotCvmfsName            = ".cvmfs"
	rootsName               = "roots"
	rootsPath               = "/" + dotCvmfsName + "/" + rootsName + "/"
	virtualDirMod           = catalog.ModeDir | 0o555
)

func isVirtual(n view.Node) bool { return n == dotCvmfs || n == rootsNode }

// virtual says what a name means that is not in the directory p, whose node is
// parent. A repository may have a /.cvmfs of its own, with snapshots; roots is
// then found in that.
func (r *Repository) virtual(p place, parent view.Node, name string) (view.Node, bool) {
	switch name {
	case dotCvmfsName:
		return dotCvmfs, p.slot.mount == "" && p.row == 0
	case rootsName:
		return rootsNode, r.isDotCvmfs(p, parent)
	}
	return 0, false
}

func (r *Repository) isDotCvmfs(p place, parent view.Node) bool {
	if p.slot.mount == "/"+dotCvmfsName && p.row == 0 {
		return true // a nested catalog of its own, as stock has it
	}
	return p.slot.mount == "" && p.slot.node(p.row) == parent && p.row != 0 &&
		p.index.Parent(p.row) == 0 && string(p.index.Name(p.row)) == dotCvmfsName
}

func (r *Repository) virtualAttr(n view.Node) view.Attr {
	links := uint32(2)
	if n == dotCvmfs {
		links = 3
	}
	return view.Attr{Ino: uint64(n), Mode: virtualDirMod, Links: links}
}

func (r *Repository) lookupVirtual(ctx context.Context, parent view.Node, name string) (view.Node, view.Attr, error) {
	if parent == dotCvmfs && name == rootsName {
		return rootsNode, r.virtualAttr(rootsNode), nil
	}
	h, err := object.ParseHash(name)
	if parent != rootsNode || err != nil {
		return 0, view.Attr{}, fs.ErrNotExist
	}
	s, ok, err := r.rootOf(h)
	if err != nil {
		return 0, view.Attr{}, err
	}
	if !ok {
		return 0, view.Attr{}, fs.ErrNotExist
	}
	n := s.node(0)
	a, err := r.Attr(ctx, n)
	return n, a, err
}

// rootOf returns the slot that shows a catalog below /.cvmfs/roots. It has
// nodes of its own, apart from those of the tree it was found in.
func (r *Repository) rootOf(h object.Hash) (*slot, bool, error) {
	mount := rootsPath + h.String()
	if !r.vouched(h) {
		return nil, false, nil
	}
	s, err := r.slots.get(r.catalogs.of(h, 0), mount, "", true)
	return s, err == nil, err
}

// vouched reports whether a catalog belongs to this repository: it is pinned,
// has been attached, or is named by one that is.
func (r *Repository) vouched(h object.Hash) bool {
	if _, ok := r.slots.byHash(h); ok || r.pins.has(h) {
		return true
	}
	now := r.catalogs.clock.Load()
	for _, c := range r.catalogs.all() {
		if a := c.acquire(now); a != nil {
			found := names(a.index, h)
			a.release()
			if found {
				return true
			}
		}
	}
	return false
}

func names(x *catalog.Index, h object.Hash) bool {
	for _, n := range x.Nested() {
		if n.Hash == h {
			return true
		}
	}
	return false
}

// pins are catalogs that somebody relies on.
type pins struct {
	mu   sync.Mutex
	held map[object.Hash]int
}

func (p *pins) has(h object.Hash) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[h] > 0
}

// Tree is a sub tree that has a catalog of its own.
type Tree struct {
	Catalog object.Hash
	Size    int64  // bytes of the catalog's database, 0 if unknown
	Path    string // below the view's root: /.cvmfs/roots/<hash>
	Node    view.Node
}

// Tree returns the tree at a path that is the root of a nested catalog, or of
// the repository. Its catalog is loaded when Tree returns.
func (r *Repository) Tree(ctx context.Context, name string) (Tree, error) {
	n, _, err := r.Find(ctx, name)
	if err != nil {
		return Tree{}, err
	}
	p, err := r.within(ctx, n)
	if err != nil {
		return Tree{}, fmt.Errorf("%s: %w", name, err)
	}
	defer p.release()
	if p.row != 0 {
		return Tree{}, fmt.Errorf("%s: %w: not the root of a tree with a catalog of its own", name, view.ErrInvalid)
	}
	return r.tree(p.slot.cat)
}

func (r *Repository) tree(c *cat) (Tree, error) {
	s, err := r.slots.get(c, rootsPath+c.hash.String(), "", true)
	if err != nil {
		return Tree{}, err
	}
	return Tree{Catalog: c.hash, Size: c.size.Load(), Path: s.mount, Node: s.node(0)}, nil
}

// Pin keeps a tree reachable below /.cvmfs/roots and its catalog in the cache,
// whatever later revisions do. A caller that kept a Tree's hash and size, say
// in a container's record, pins it again after a restart. Pins add up.
func (r *Repository) Pin(h object.Hash, size int64) (Tree, error) {
	r.pins.mu.Lock()
	if r.pins.held == nil {
		r.pins.held = map[object.Hash]int{}
	}
	r.pins.held[h]++
	r.pins.mu.Unlock()
	r.o.Cache.Pin(cache.Index(h))
	return r.tree(r.catalogs.of(h, size))
}

// Unpin takes back one Pin.
func (r *Repository) Unpin(h object.Hash) {
	r.pins.mu.Lock()
	held := r.pins.held[h] > 0
	if held {
		if r.pins.held[h]--; r.pins.held[h] == 0 {
			delete(r.pins.held, h)
		}
	}
	r.pins.mu.Unlock()
	if held {
		r.o.Cache.Unpin(cache.Index(h))
	}
}

// Find walks from the root along an absolute path. It follows no symbolic
// link.
func (r *Repository) Find(ctx context.Context, name string) (view.Node, view.Attr, error) {
	n := r.Root()
	a, err := r.Attr(ctx, n)
	for rest := path.Clean("/" + name)[1:]; err == nil && rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		n, a, err = r.Lookup(ctx, n, part)
	}
	if err != nil {
		return 0, view.Attr{}, fmt.Errorf("%s: %w", name, err)
	}
	return n, a, nil
}
