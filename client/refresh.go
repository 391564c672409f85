package client

import (
	"context"
	"fmt"

	"github.com/rootstock-cf/rootstock/manifest"
)

// Refresh asks the servers for a newer revision and shows it. changed tells
// whether Root is another node now. Everything is verified each time, also
// when the server says that nothing is new: an error that wraps
// manifest.ErrExpired means that the whitelist ran out; what is shown stays.
// An older revision is manifest.ErrRollback. A repository that is fixed by
// tag, date or root hash never changes.
func (r *Repository) Refresh(ctx context.Context) (changed bool, err error) {
	r.checkCatalogs()
	if r.fixed() {
		return false, nil
	}
	r.refresh.Lock()
	defer r.refresh.Unlock()
	old := r.head.Load()
	changed, err = r.refreshLocked(ctx, old)
	if ctx.Err() == nil {
		r.accepted(err)
	}
	if err != nil && !old.offline && ctx.Err() == nil {
		next := *old
		next.offline = true
		r.head.Store(&next)
	}
	return changed, err
}

func (r *Repository) refreshLocked(ctx context.Context, old *head) (bool, error) {
	d, v, err := r.fetchSigned(ctx, r.saved)
	if err != nil {
		return false, err
	}
	if err := manifest.Newer(old.manifest.Mark(), v.Manifest); err != nil {
		return false, fmt.Errorf("repository %w", err)
	}
	next := &head{root: old.root, manifest: v.Manifest, end: v.WhitelistEnd, revision: old.revision}
	changed := v.Manifest.RootCatalog != old.root.cat.hash
	if changed {
		if next, err = r.showVerified(ctx, v); err != nil {
			return false, err
		}
	}
	if err := r.saveHead(d, v.Manifest.Mark()); err != nil {
		return false, err
	}
	r.saved = d
	r.head.Store(next)
	if changed {
		r.o.Log.Info("repository has a new revision", "repository", r.o.Name, "revision", next.revision, "root", next.root.cat.hash.String())
	}
	return changed, nil
}
