package shift

import (
	"context"
	"errors"
	"slices"

	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// View is a view with translated ids. All else is as in the one it is made of.
type View struct {
	tree.View
	ids *ids
}

// NewView returns v as a container with the mapping m is to see it from the
// host. m is valid and not zero.
func NewView(v tree.View, m overlay.Mapping) View { return View{v, newIDs(m)} }

// Lookup implements tree.Names.
func (v View) Lookup(ctx context.Context, parent view.Node, name string) (view.Node, view.Attr, error) {
	n, a, err := v.View.Lookup(ctx, parent, name)
	v.ids.attr(&a)
	return n, a, err
}

// ReadDir implements tree.Names.
func (v View) ReadDir(ctx context.Context, dir view.Node, from int, add func(name string, n view.Node, a view.Attr) bool) error {
	return v.View.ReadDir(ctx, dir, from, func(name string, n view.Node, a view.Attr) bool {
		v.ids.attr(&a)
		return add(name, n, a)
	})
}

// Attr implements tree.Inodes.
func (v View) Attr(ctx context.Context, n view.Node) (view.Attr, error) {
	a, err := v.View.Attr(ctx, n)
	v.ids.attr(&a)
	return a, err
}

// XAttr implements tree.XAttrs.
func (v View) XAttr(ctx context.Context, n view.Node, name string) ([]byte, error) {
	value, err := v.View.XAttr(ctx, n, name)
	if err != nil {
		return nil, err
	}
	return v.ids.xattr(name, value)
}

// ListXAttr implements tree.XAttrs. What is listed can be read: a copy-up would
// fail otherwise.
func (v View) ListXAttr(ctx context.Context, n view.Node) ([]string, error) {
	names, err := v.View.ListXAttr(ctx, n)
	i := slices.Index(names, attrCapability)
	if err != nil || i < 0 {
		return names, err
	}
	if _, err := v.XAttr(ctx, n, attrCapability); errors.Is(err, view.ErrNoXAttr) {
		return slices.Concat(names[:i], names[i+1:]), nil
	} else if err != nil {
		return nil, err
	}
	return names, nil
}
