package tree

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// Kernel is told what it must forget. A fusefs connection is one.
type Kernel interface {
	InvalEntry(parent uint64, name string) error
	InvalInode(node uint64, off, length int64) error
}

var _ Kernel = (*fusefs.Conn)(nil)

// Change is something the kernel may remember and that is no longer so: what
// Name is in the directory Parent or, with an empty Name, Parent's own
// attributes and its listing or content.
type Change struct {
	Parent view.Node
	Name   string
}

// shown is what the kernel is still to be told.
type shown struct {
	mu      sync.Mutex  // held while changes are announced: one announcement at a time
	pending []Change    // announced without success
	before  []view.Node // roots from which not all changes were announced
}

// Invalidate announces changes to the kernel. A Parent that is the node shown as
// the mount's root means that directory. It waits for requests under way in the
// directories concerned, so it must not be called while answering one. All
// changes are tried even if some fail; those are announced again with the next.
func (f *FS) Invalidate(k Kernel, changed ...Change) error {
	f.shown.mu.Lock()
	defer f.shown.mu.Unlock()
	return f.announce(k, changed)
}

func (f *FS) announce(k Kernel, changed []Change) error {
	root := view.Node(f.root.Load())
	changed = append(f.shown.pending, changed...)
	f.shown.pending = nil
	var errs []error
	for _, c := range changed {
		at := id(c.Parent)
		if c.Parent == root {
			at = fusefs.RootID
		}
		var err error
		if c.Name == "" {
			err = k.InvalInode(at, 0, 0)
		} else {
			err = k.InvalEntry(at, c.Name)
		}
		if err != nil {
			errs = append(errs, err)
			f.shown.pending = append(f.shown.pending, c)
		}
	}
	return errors.Join(errs...)
}

// ShowRoot makes the mount show the view's newest root; until it is called the
// mount goes on showing the one before, so that what the kernel remembers is
// always of one known root. It announces exactly the entries listed in the root
// directory that have come, gone or become another node, and the directory's
// own listing. All below follows by itself: a node is always the same, so a
// directory in which something changed is another node. It reports whether there
// was a new root.
func (f *FS) ShowRoot(ctx context.Context, k Kernel) (changed bool, err error) {
	f.shown.mu.Lock()
	defer f.shown.mu.Unlock()
	before, now := view.Node(f.root.Load()), f.view.Root()
	if now == before && len(f.shown.before) == 0 {
		return false, f.announce(k, nil)
	}
	var changes []Change
	for _, old := range append(f.shown.before, before) {
		if old == now {
			continue
		}
		some, err := f.difference(ctx, old, now)
		if err != nil {
			return false, fmt.Errorf("compare the roots of two revisions: %w", err)
		}
		changes = append(changes, some...)
	}
	f.shown.before = nil
	// The order matters: a lookup answered from the old root after its entry
	// was announced would be remembered.
	f.root.Store(uint64(now))
	for i, c := range f.shown.pending {
		if c.Parent == before {
			f.shown.pending[i].Parent = now
		}
	}
	return true, f.announce(k, append(changes, Change{Parent: now}))
}

func (f *FS) difference(ctx context.Context, before, after view.Node) ([]Change, error) {
	old, err := f.children(ctx, before)
	if err != nil {
		return nil, err
	}
	now, err := f.children(ctx, after)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for name, n := range now {
		if was, ok := old[name]; !ok || was != n {
			changes = append(changes, Change{Parent: after, Name: name})
		}
	}
	for name := range old {
		if _, ok := now[name]; !ok {
			changes = append(changes, Change{Parent: after, Name: name})
		}
	}
	return changes, nil
}

func (f *FS) children(ctx context.Context, dir view.Node) (map[string]view.Node, error) {
	m := make(map[string]view.Node)
	err := f.view.ReadDir(ctx, dir, 0, func(name string, n view.Node, _ view.Attr) bool {
		m[name] = n
		return true
	})
	return m, err
}
