package viewtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"sync"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// Root returns the root of the newest revision.
func (t *Tree) Root() view.Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.root
}

func (t *Tree) directory(n view.Node) (*inode, error) {
	i, err := t.get(n)
	if err == nil && i.children == nil {
		err = fmt.Errorf("node %d: %w", n, view.ErrNotDir)
	}
	return i, err
}

// Lookup finds a name.
func (t *Tree) Lookup(ctx context.Context, dir view.Node, name string) (view.Node, view.Attr, error) {
	if err := t.call(ctx, OpLookup, dir); err != nil {
		return 0, view.Attr{}, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, err := t.directory(dir)
	if err != nil {
		return 0, view.Attr{}, err
	}
	n, ok := i.children[name]
	if !ok {
		return 0, view.Attr{}, fs.ErrNotExist
	}
	return n, t.attr(n), nil
}

// ReadDir lists a directory.
func (t *Tree) ReadDir(ctx context.Context, dir view.Node, from int, add func(string, view.Node, view.Attr) bool) error {
	if err := t.call(ctx, OpReadDir, dir); err != nil {
		return err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, err := t.directory(dir)
	if err != nil {
		return err
	}
	for at := from; at < len(i.order); at++ {
		n := i.children[i.order[at]]
		if !add(i.order[at], n, t.attr(n)) {
			return nil
		}
	}
	return nil
}

// Attr describes a node.
func (t *Tree) Attr(ctx context.Context, n view.Node) (view.Attr, error) {
	if err := t.call(ctx, OpAttr, n); err != nil {
		return view.Attr{}, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if _, err := t.get(n); err != nil {
		return view.Attr{}, err
	}
	return t.attr(n), nil
}

func (t *Tree) attr(n view.Node) view.Attr {
	i := t.inodes[n-firstNode]
	f := &i.file
	a := view.Attr{
		Ino:     uint64(n) - firstNode + 1,
		Mode:    f.Mode,
		UID:     f.UID,
		GID:     f.GID,
		Links:   i.links,
		MTime:   f.MTime,
		MTimeNS: f.MTimeNS,
		Rdev:    f.Rdev,
	}
	switch f.Mode & modeType {
	case modeRegular:
		a.Size = int64(len(f.Data))
	case modeSymlink:
		a.Size = int64(len(f.Target))
	case modeDir:
		a.Size = 4096
	}
	a.Blocks = (a.Size + 511) / 512
	return a
}

// Readlink returns a target.
func (t *Tree) Readlink(ctx context.Context, n view.Node) ([]byte, error) {
	if err := t.call(ctx, OpReadlink, n); err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, err := t.get(n)
	if err != nil {
		return nil, err
	}
	if i.file.Mode&modeType != modeSymlink {
		return nil, view.ErrInvalid
	}
	return []byte(i.file.Target), nil
}

// XAttr returns an attribute.
func (t *Tree) XAttr(ctx context.Context, n view.Node, name string) ([]byte, error) {
	if err := t.call(ctx, OpXAttr, n); err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, err := t.get(n)
	if err != nil {
		return nil, err
	}
	v, ok := i.file.XAttrs[name]
	if !ok {
		return nil, view.ErrNoXAttr
	}
	return []byte(v), nil
}

// ListXAttr lists names, sorted.
func (t *Tree) ListXAttr(ctx context.Context, n view.Node) ([]string, error) {
	if err := t.call(ctx, OpXAttr, n); err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, err := t.get(n)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range i.file.XAttrs {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, nil
}

// AnyXAttrs reports whether any file has had an attribute.
func (t *Tree) AnyXAttrs() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.anyXAttr
}

// Statfs counts nodes.
func (t *Tree) Statfs(context.Context) (view.Statfs, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return view.Statfs{BlockSize: 4096, Blocks: 1 << 20, Files: uint64(len(t.inodes)), NameMax: 255}, nil
}

// Open opens a regular file.
func (t *Tree) Open(ctx context.Context, n view.Node) (view.Content, error) {
	if err := t.call(ctx, OpOpen, n); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i, err := t.get(n)
	if err != nil {
		return nil, err
	}
	if i.file.Mode&modeType != modeRegular {
		return nil, view.ErrInvalid
	}
	t.opened++
	return &content{tree: t, node: n, data: i.file.Data}, nil
}

// content is an open file. Using it after Close is an error, as it would be with
// a file descriptor.
type content struct {
	tree *Tree
	node view.Node
	data []byte

	mu     sync.RWMutex
	closed bool
}

var errClosed = errors.New("content used after close")

func (c *content) Size() int64 { return int64(len(c.data)) }

func (c *content) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return 0, errClosed
	}
	if err := c.tree.call(ctx, OpRead, c.node); err != nil {
		return 0, err
	}
	if off >= int64(len(c.data)) {
		return 0, io.EOF
	}
	n := copy(p, c.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c *content) Close() error {
	// Not Lock: a reader at this moment is the caller's mistake, to be seen.
	if !c.mu.TryLock() {
		return errors.New("content closed while being read")
	}
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.closed = true
	c.tree.mu.Lock()
	c.tree.closed++
	c.tree.mu.Unlock()
	return nil
}
