// Package viewtest holds a small, real implementation of a view in memory, for
// tests of whatever shows one, and the suite of checks that every implementation
// of a view passes.
package viewtest

import (
	"context"
	"fmt"
	"io/fs"
	"sort"
	"strings"
	"sync"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// File describes an entry. Type bits of Mode may be left out for a regular file.
type File struct {
	Mode    uint32
	UID     uint32
	GID     uint32
	MTime   int64
	MTimeNS int32
	Rdev    uint64
	Data    []byte            // of a regular file
	Target  string            // of a symbolic link
	XAttrs  map[string]string // a nil map is none
}

// Op names what a [Hook] is called for.
type Op string

// The operations that may wait.
const (
	OpLookup   Op = "lookup"
	OpAttr     Op = "attr"
	OpReadDir  Op = "readdir"
	OpReadlink Op = "readlink"
	OpXAttr    Op = "xattr"
	OpOpen     Op = "open"
	OpRead     Op = "read"
)

// Hook stands for a slow or failing network: it is called before each operation
// on n and may wait, fail or panic. A lookup's n is the directory.
type Hook func(ctx context.Context, op Op, n view.Node) error

// Tree is a view in memory. Files are added to the revision being built; what
// earlier revisions show never changes.
type Tree struct {
	mu       sync.RWMutex
	inodes   []*inode
	root     view.Node
	building int // revision; directories of older ones are copied when changed
	anyXAttr bool
	hook     Hook
	opened   int
	closed   int
}

type inode struct {
	file     File
	links    uint32
	revision int
	children map[string]view.Node
	order    []string // sorted names
}

// New returns a tree that is an empty directory, mode 0755.
func New() *Tree {
	t := &Tree{}
	t.root = t.add(File{Mode: modeDir | 0o755})
	return t
}

const (
	modeType    = 0o170000
	modeDir     = 0o040000
	modeRegular = 0o100000
	modeSymlink = 0o120000
)

// firstNode is added to positions to make nodes, to find those who take small
// numbers for something else. The first are not used at all.
const firstNode = 1 << 32

func (t *Tree) add(f File) view.Node {
	i := &inode{file: f, links: 1, revision: t.building}
	if f.Mode&modeType == modeDir {
		i.children, i.links = make(map[string]view.Node), 2
	}
	t.inodes = append(t.inodes, i)
	return view.Node(firstNode + len(t.inodes) - 1)
}

func (t *Tree) get(n view.Node) (*inode, error) {
	if at := uint64(n) - firstNode; n >= firstNode && at < uint64(len(t.inodes)) {
		return t.inodes[at], nil
	}
	return nil, fmt.Errorf("node %d: %w", n, view.ErrStale)
}

// SetHook installs h, or nothing if it is nil.
func (t *Tree) SetHook(h Hook) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hook = h
}

func (t *Tree) call(ctx context.Context, op Op, n view.Node) error {
	t.mu.RLock()
	h := t.hook
	t.mu.RUnlock()
	if h == nil {
		return nil
	}
	return h(ctx, op, n)
}

// OpenContents returns how many contents are open.
func (t *Tree) OpenContents() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.opened - t.closed
}

// Opened returns how often a content was opened.
func (t *Tree) Opened() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.opened
}

// Add puts a file at path, replacing what is there, and returns its node.
// Missing directories are made, mode 0755.
func (t *Tree) Add(path string, f File) view.Node {
	if f.Mode&modeType == 0 {
		f.Mode |= modeRegular
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(f.XAttrs) > 0 {
		t.anyXAttr = true
	}
	n := t.add(f)
	t.put(path, n)
	return n
}

// Link makes path another name of the file at old.
func (t *Tree) Link(old, path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, name := t.parent(old)
	n, ok := t.inodes[dir-firstNode].children[name]
	if !ok {
		panic("viewtest: no file to link: " + old)
	}
	t.inodes[n-firstNode].links++
	t.put(path, n)
}

// Remove takes path away.
func (t *Tree) Remove(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, name := t.parent(path)
	i := t.inodes[dir-firstNode]
	if n, ok := i.children[name]; ok && t.inodes[n-firstNode].children != nil {
		i.links--
	}
	delete(i.children, name)
	i.sort()
}

// Revise begins a new revision: directories changed from now on, and those on
// the way to them, become new nodes, the root last.
func (t *Tree) Revise() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.building++
}

// put enters n at path. mu is held.
func (t *Tree) put(path string, n view.Node) {
	dir, name := t.parent(path)
	i := t.inodes[dir-firstNode]
	_, replaced := i.children[name]
	i.children[name] = n
	if !replaced {
		at := sort.SearchStrings(i.order, name)
		i.order = append(i.order, "")
		copy(i.order[at+1:], i.order[at:])
		i.order[at] = name
	}
	if t.inodes[n-firstNode].file.Mode&modeType == modeDir && !replaced {
		i.links++
	}
}

func (i *inode) sort() {
	i.order = i.order[:0]
	for name := range i.children {
		i.order = append(i.order, name)
	}
	sort.Strings(i.order)
}

// parent returns the directory of path in the revision being built. mu is held.
func (t *Tree) parent(path string) (dir view.Node, name string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	t.root = t.own(t.root)
	dir = t.root
	for _, p := range parts[:len(parts)-1] {
		i := t.inodes[dir-firstNode]
		child, ok := i.children[p]
		if !ok {
			child = t.add(File{Mode: modeDir | 0o755})
			i.children[p] = child
			i.links++
			i.sort()
		}
		child = t.own(child)
		i.children[p] = child
		dir = child
	}
	return dir, parts[len(parts)-1]
}

// own returns the copy of a directory that belongs to the revision being built.
func (t *Tree) own(n view.Node) view.Node {
	i := t.inodes[n-firstNode]
	if i.children == nil {
		panic("viewtest: not a directory")
	}
	if i.revision == t.building {
		return n
	}
	c := t.add(i.file)
	copied := t.inodes[c-firstNode]
	copied.links = i.links
	for name, child := range i.children {
		copied.children[name] = child
	}
	copied.sort()
	return c
}

// Node returns the node at path in the revision being built.
func (t *Tree) Node(path string) (view.Node, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := t.root
	for _, p := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		child, ok := t.inodes[n-firstNode].children[p]
		if !ok {
			return 0, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
		n = child
	}
	return n, nil
}
