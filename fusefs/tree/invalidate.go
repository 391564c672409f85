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

// shown is the root that the kernel has seen entries of.
type shown struct {
	mu   sync.Mutex // held while a change is announced, so one at a time
	root view.Node
}

// Invalidate announces changes to the kernel. A Parent that is the root, before
// or after a new revision, means the mount's root directory. It waits for
// requests under way in the directories concerned, so it must not be called
// while answering one. All changes are announced even if some fail.
func (f *FS) Invalidate(k Kernel, changed ...Change) error {
	f.shown.mu.Lock()
	defer f.shown.mu.Unlock()
	return f.invalidate(k, changed)
}

func (f *FS) invalidate(k Kernel, changed []Change) error {
	now := f.view.Root()
	var errs []error
	for _, c := range changed {
		at := id(c.Parent)
		if c.Parent == now || c.Parent == f.shown.root {
			at = fusefs.RootID
		}
		if c.Name == "" {
			errs = append(errs, k.InvalInode(at, 0, 0))
		} else {
			errs = append(errs, k.InvalEntry(at, c.Name))
		}
	}
	return errors.Join(errs...)
}

// ShowRoot makes the kernel see the view's newest root. It announces exactly the
// entries of the root directory that have come, gone or become another node, and
// the directory's own listing. All below follows by itself: a node is always the
// same, so a directory in which something changed is another node. It reports
// whether there was a new root.
func (f *FS) ShowRoot(ctx context.Context, k Kernel) (changed bool, err error) {
	f.shown.mu.Lock()
	defer f.shown.mu.Unlock()
	now := f.view.Root()
	if now == f.shown.root {
		return false, nil
	}
	changes, err := f.difference(ctx, f.shown.root, now)
	if err != nil {
		return true, fmt.Errorf("compare roots: %w", err)
	}
	changes = append(changes, Change{Parent: now})
	if err := f.invalidate(k, changes); err != nil {
		return true, err
	}
	f.shown.root = now
	return true, nil
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
