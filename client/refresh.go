package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// Refresh asks the servers for a newer revision and shows it. changed tells
// whether Root is another node now. Everything is verified each time, also
// when the server says that nothing is new: an error that wraps
// manifest.ErrExpired means that the whitelist ran out, manifest.ErrBlacklisted
// that something was withdrawn; what is shown stays, and [Repository.Trusted]
// says whether it may still be relied on. An older revision is
// manifest.ErrRollback.
//
// Of a repository that is fixed by tag, date or Still, only the whitelist is renewed;
// one that is fixed by root hash asks nothing.
func (r *Repository) Refresh(ctx context.Context) (changed bool, err error) {
	r.checkCatalogs()
	r.refresh.Lock()
	defer r.refresh.Unlock()
	old := r.head.Load()
	switch {
	case !r.o.RootHash.IsZero():
		err = r.allowed(old.revision)
	case r.fixed():
		err = r.renew(ctx, old)
	default:
		changed, err = r.refreshLocked(ctx, old)
	}
	if ctx.Err() == nil && r.o.RootHash.IsZero() {
		r.accepted(err)
	}
	if err != nil && ctx.Err() == nil {
		next := *old
		next.offline = r.o.RootHash.IsZero()
		next.withdrawn = r.withdrawn(ctx, old)
		r.head.Store(&next)
	}
	return changed, err
}

// withdrawn returns the blacklist's objection to what is shown, nil if it has
// none. A blacklist that cannot be read changes nothing.
func (r *Repository) withdrawn(ctx context.Context, h *head) error {
	err := r.allowed(h.revision)
	if err == nil && r.o.RootHash.IsZero() {
		saved := r.saved
		_, err = r.verify(ctx, &saved, func(context.Context, object.Hash) ([]byte, error) { return saved.certificate, nil })
	}
	switch {
	case errors.Is(err, manifest.ErrBlacklisted):
		return err
	case err != nil:
		return h.withdrawn
	}
	return nil
}

// Trusted returns nil while what is shown may be handed out to new users: its
// whitelist is valid, or ran out less than the grace ago, and no blacklist is
// against it. Otherwise the error wraps
// manifest.ErrExpired or manifest.ErrBlacklisted. Users that there are keep
// what they have: a container must not lose its root file system because a
// signature was not renewed in time.
func (r *Repository) Trusted() error {
	h := r.head.Load()
	if h.withdrawn != nil {
		return h.withdrawn
	}
	if !h.end.IsZero() && !r.o.Clock().Before(h.end.Add(r.o.Grace)) {
		return fmt.Errorf("repository %s: %w at %s; its owner has to sign a new one with the master key",
			r.o.Name, manifest.ErrExpired, h.end.Format(time.RFC3339))
	}
	return nil
}

func (r *Repository) refreshLocked(ctx context.Context, old *head) (bool, error) {
	d, v, err := r.newer(ctx, old)
	if err != nil {
		return false, err
	}
	next := &head{root: old.root, manifest: v.Manifest, end: v.WhitelistEnd, revision: old.revision}
	changed := v.Manifest.RootCatalog != old.root.cat.hash
	if changed {
		if next, err = r.showVerified(ctx, v); err != nil {
			return false, err
		}
	}
	if err := r.keep(d, v, next); err != nil {
		return false, err
	}
	if changed {
		r.o.Log.Info("repository has a new revision", "repository", r.o.Name, "revision", next.revision, "root", next.root.cat.hash.String())
	}
	return changed, nil
}

// renew fetches the whitelist of a repository that is fixed, when it is old,
// and verifies with it that the repository is what it was.
func (r *Repository) renew(ctx context.Context, old *head) error {
	if err := r.allowed(old.revision); err != nil {
		return err
	}
	now := r.o.Clock()
	if now.Unix()-r.saved.whitelistAt < int64(r.o.WhitelistAge/time.Second) && now.Before(old.end) && old.withdrawn == nil && !old.offline {
		saved := r.saved
		_, err := r.verify(ctx, &saved, func(context.Context, object.Hash) ([]byte, error) { return saved.certificate, nil })
		return err
	}
	d, v, err := r.newer(ctx, old)
	if err != nil {
		return err
	}
	return r.keep(d, v, &head{root: old.root, manifest: v.Manifest, end: v.WhitelistEnd, revision: old.revision})
}

// newer fetches what is signed and refuses what is older than old.
func (r *Repository) newer(ctx context.Context, old *head) (signed, manifest.Verified, error) {
	d, v, err := r.fetchSigned(ctx, r.saved)
	if err != nil {
		return d, v, err
	}
	if err := manifest.Newer(old.manifest.Mark(), v.Manifest); err != nil {
		return d, v, fmt.Errorf("repository %w", err)
	}
	return d, v, nil
}

// keep saves a verified head and shows it.
func (r *Repository) keep(d signed, v manifest.Verified, next *head) error {
	if err := r.saveHead(d, v.Manifest.Mark()); err != nil {
		return err
	}
	r.saved, next.checked = d, r.o.Clock()
	r.head.Store(next)
	return nil
}
