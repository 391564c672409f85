package client

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// ownPrefix begins the attributes by which a published tree says what it is.
// They are answered but not listed: a tree lists exactly as its source does
// (docs/design/repository.md). Stock clients list them.
const ownPrefix = "user.rootstock."

// XAttr returns an extended attribute: a stored one, or else one of those the
// client computes (CVMFS-FORMAT 6.8). view.ErrNoXAttr if there is neither.
func (r *Repository) XAttr(ctx context.Context, n view.Node, name string) ([]byte, error) {
	if isVirtual(n) {
		return nil, view.ErrNoXAttr
	}
	p, err := r.at(ctx, n)
	if err != nil {
		return nil, err
	}
	defer p.release()
	if p.index.HasXAttrs(p.row) {
		stored, err := p.index.XAttrs(p.row)
		if err != nil {
			return nil, r.failed(ctx, err)
		}
		for _, x := range stored {
			if x.Name == name {
				return x.Value, nil
			}
		}
	}
	// Most questions are about security.capability, for each file once.
	if !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "xfsroot.") {
		return nil, view.ErrNoXAttr
	}
	value, err := r.magic(ctx, p, name)
	if err != nil && !errors.Is(err, view.ErrNoXAttr) {
		return nil, r.failed(ctx, err)
	}
	return value, err
}

// ListXAttr returns the names of the stored attributes, and on the root of
// those the client computes for it.
func (r *Repository) ListXAttr(ctx context.Context, n view.Node) ([]string, error) {
	if isVirtual(n) {
		return nil, nil
	}
	p, err := r.at(ctx, n)
	if err != nil {
		return nil, err
	}
	defer p.release()
	var list []string
	if p.index.HasXAttrs(p.row) {
		stored, err := p.index.XAttrs(p.row)
		if err != nil {
			return nil, r.failed(ctx, err)
		}
		for _, x := range stored {
			if !strings.HasPrefix(x.Name, ownPrefix) {
				list = append(list, x.Name)
			}
		}
	}
	if n == r.Root() {
		for _, name := range r.magicNames(p) {
			if !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
		slices.Sort(list)
	}
	return list, nil
}

// AnyXAttrs reports whether any node, now or in a revision to come, may have a
// stored attribute.
func (r *Repository) AnyXAttrs() bool {
	if !r.fixed() {
		return true
	}
	a := r.head.Load().root.cat.acquire(r.catalogs.clock.Load())
	if a == nil {
		return true
	}
	defer a.release()
	self, subtree := a.index.Counters()
	return a.index.AnyXAttrs() || self.XAttr != 0 || subtree.XAttr != 0
}
