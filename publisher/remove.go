package publisher

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/reference"
)

// ErrInUse reports a version that something in the repository points to.
var ErrInUse = errors.New("in use")

// Removed says what a removal took away.
type Removed struct {
	Reference reference.Reference
	Path      string // of the tree in the repository
	Tree      string // tree id, hex
	Revision  uint64
	// TreeStays reports that other tags point to the image's tree, so that
	// only this one is gone.
	TreeStays bool
}

// Remove takes a version out of the next revision; older revisions keep it, and
// garbage collection frees what no revision that is kept names. An image's
// version is its tag: its tree goes with the last one. It returns an error that
// wraps [ErrInUse] and names the channels while any points there, or
// [ErrNotFound].
func (p *Publisher) Remove(ctx context.Context, ref reference.Reference) (*Removed, error) {
	var r *Removed
	what := "remove " + ref.String()
	rev, err := p.edit(ctx, what, func(ctx context.Context, _ *head, tx *revision.Tx) (_ bool, err error) {
		r, err = (&view{st: p.o.Store, tx: tx}).remove(ctx, ref)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r.Revision = rev
	return r, nil
}

func (v *view) remove(ctx context.Context, ref reference.Reference) (*Removed, error) {
	if ref.Version == "" {
		return nil, errNoVersion
	}
	t, err := v.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	all, err := v.all(ctx)
	if err != nil {
		return nil, err
	}
	r := &Removed{Reference: ref, Path: t.Path, Tree: t.Tree}
	r.TreeStays = slices.ContainsFunc(all, func(o Listed) bool { return o.Path == t.Path && o.Reference != ref })
	if err := v.unused(ctx, t, r.TreeStays); err != nil {
		return nil, err
	}
	name, _ := ref.RepositoryPath()
	if err := v.drop(ctx, name); err != nil || r.TreeStays {
		return r, err
	}
	if ref.Kind == reference.Images {
		hex := path.Base(t.Path)
		if err := errors.Join(v.drop(ctx, t.Path), v.drop(ctx, ownDir(imagesDir, hex))); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(all, func(o Listed) bool { return o.Tree == t.Tree && o.Path != t.Path }) {
		return r, nil
	}
	return r, errors.Join(v.drop(ctx, ownDir(treesDir, t.Tree)), v.drop(ctx, ownDir(notesDir, t.Tree)))
}

// unused reports, as an error that wraps [ErrInUse], the channels that would
// lead nowhere without t. A channel leads to an image's tree, not to its tag:
// while another tag keeps the tree, only those that were set to this tag
// count.
func (v *view) unused(ctx context.Context, t Listed, treeStays bool) error {
	// Another name's channel may have been made to point here by hand.
	all, err := v.channels(ctx)
	if err != nil {
		return err
	}
	var users []string
	for _, c := range all {
		of := func(at, version string) bool {
			return at == t.Path && (!treeStays || c.Reference.Name == t.Reference.Name && version == t.Reference.Version)
		}
		if of(c.at.Path, c.Version) {
			users = append(users, c.Reference.String())
		}
		if c.Rollout != nil && of(c.rolloutPath(), c.Rollout.Version) {
			users = append(users, "the rollout of "+c.Reference.String())
		}
	}
	if len(users) == 0 {
		return nil
	}
	return fmt.Errorf("%w by %s; move what points there with rootstock channel set, or take it away with rootstock channel remove (a rollout: rootstock channel rollback)",
		ErrInUse, strings.Join(users, ", "))
}

// drop removes what is at name, and the directories that are empty then.
func (v *view) drop(ctx context.Context, name string) error {
	if err := v.tx.Remove(ctx, name); err != nil {
		return err
	}
	return prune(ctx, v.tx, name)
}

// prune removes the directories above name that hold nothing any more.
func prune(ctx context.Context, tx *revision.Tx, name string) error {
	for dir := catalog.Parent(name); dir != ""; dir = catalog.Parent(dir) {
		if e, ok, err := tx.Lookup(ctx, dir); err != nil {
			return err
		} else if !ok || !e.IsDir() {
			continue
		}
		rows, err := tx.List(ctx, dir)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(rows, func(e catalog.Entry) bool { return e.Name != revision.Marker }) {
			return nil
		}
		if err := tx.Remove(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}
