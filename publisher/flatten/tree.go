package flatten

import (
	"fmt"
	"path"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
)

// node is one name of the tree being built. Directories have children.
type node struct {
	name     string
	parent   *node // the root's is the root itself
	ino      *inode
	children map[string]*node
}

func newRoot() *node {
	n := &node{ino: impliedDir()}
	n.parent = n
	return n
}

// impliedDir is a directory that no layer describes.
func impliedDir() *inode { return &inode{mode: catalog.ModeDir | 0o755} }

// visit calls fn for n and everything below, in no order.
func (n *node) visit(fn func(*node)) {
	fn(n)
	for _, c := range n.children {
		c.visit(fn)
	}
}

// path is the node's name from the root.
func (n *node) path() string {
	if n.parent == n {
		return ""
	}
	return join(n.parent.path(), n.name)
}

// put makes ino the entry of that name, as an extractor would: a directory
// keeps what it holds if it was one before, anything else is replaced whole.
func (n *node) put(name string, ino *inode) {
	if old := n.children[name]; old != nil && old.ino.isDir() && ino.isDir() {
		old.ino = ino
		return
	}
	if n.children == nil {
		n.children = map[string]*node{}
	}
	n.children[name] = &node{name: name, parent: n, ino: ino}
}

// dir finds the directory p, following symbolic links within the tree, never
// above its root. With create it makes what is missing on the way; without, it
// returns nil for that. avoid, if not nil, names written paths that are not to
// be reached through a link.
func (n *node) dir(p string, create bool, avoid func(string) bool) (*node, error) {
	at, follows := n, 0
	written := "" // the part of p already walked, while no link was met
	literal := true
	for rest := p; rest != ""; {
		var c string
		c, rest, _ = strings.Cut(rest, "/")
		switch c {
		case "", ".":
			continue
		case "..":
			at = at.parent
			continue
		}
		if literal {
			written = join(written, c)
		}
		next := at.children[c]
		if next == nil {
			if !create {
				return nil, nil
			}
			at.put(c, impliedDir())
			next = at.children[c]
		}
		switch {
		case next.ino.isDir():
			at = next
		case next.ino.isSymlink():
			if literal && avoid != nil && avoid(written) {
				return nil, nil
			}
			literal = false
			if follows++; follows > maxFollow {
				return nil, fmt.Errorf("%w: %q leads through more than %d symbolic links, or a loop of them", ErrHostile, p, maxFollow)
			}
			target := next.ino.target
			if path.IsAbs(target) {
				at = n
			}
			if len(target)+len(rest) >= 2*maxPath {
				return nil, fmt.Errorf("%w: %q leads through symbolic links to a path of over %d bytes", ErrHostile, p, 2*maxPath)
			}
			rest = target + "/" + rest
		default:
			return nil, fmt.Errorf("%w: %q is used as a directory and is none", ErrConflict, c)
		}
	}
	return at, nil
}

// find returns the node of a clean path, links followed in its parent only, or
// nil.
func (n *node) find(p string) (*node, error) {
	if p == "" {
		return n, nil
	}
	parent, base := split(p)
	d, err := n.dir(parent, false, nil)
	if err != nil || d == nil {
		return nil, err
	}
	return d.children[base], nil
}
