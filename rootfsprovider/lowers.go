package rootfsprovider

import (
	"context"
	"errors"
	"fmt"

	"github.com/rootstock-cf/rootstock/cell/control"
)

// lower finds the tree where it is published, has the daemon make it ready, and
// makes sure that this container may stand on it. It notes in rec what it found.
func (p *Provider) lower(ctx context.Context, r Request, root Root, rec *Record) (control.Lower, error) {
	var lower control.Lower
	var droplet string
	if root.Droplet != nil {
		droplet = root.Droplet.Digest
	}
	asked := control.LowerRequest{Handle: r.Handle, Droplet: droplet, UIDMaps: p.mapping.UIDs, GIDMaps: p.mapping.GIDs}
	err := control.ErrNotFound
	for _, ref := range root.Refs {
		rec.Ref = ref
		asked.Ref = ref
		lower, err = p.daemon.Lower(ctx, asked)
		if (droplet != "" || !p.mapping.IsZero()) && errors.Is(err, control.ErrInvalid) {
			// A daemon of a release before does not want to know.
			lower, err = p.daemon.Lower(ctx, control.LowerRequest{Ref: ref, Handle: r.Handle})
		}
		if !errors.Is(err, control.ErrNotFound) {
			break
		}
	}
	if errors.Is(err, control.ErrNotFound) && root.Image {
		p.wish(ctx, root)
	}
	if err != nil {
		return control.Lower{}, unpublished(root, fmt.Errorf("%s: %w", rec.Ref, err))
	}
	rec.Tree, rec.Version, rec.ImageBytes = lower.Tree, lower.Version, lower.Bytes
	if err := checkLower(lower); err == nil && p.mapping.IsZero() && len(lower.Mapped) > 0 {
		return control.Lower{}, fmt.Errorf("%s: the daemon mapped ids for a container that has the host's", rec.Ref)
	} else if err != nil {
		return control.Lower{}, fmt.Errorf("%s: %w", rec.Ref, err)
	}
	if root.Tree != "" && root.Tree != lower.Tree {
		return control.Lower{}, fmt.Errorf("%s is the tree %s, and the stack's thin tar allows only %s; write the thin tar again",
			rec.Ref, lower.Tree, root.Tree)
	}
	if root.Image {
		if err := p.mayRun(ctx, r, rec, lower.Source); err != nil {
			return control.Lower{}, err
		}
	}
	return lower, nil
}

// mayRun asks the image's registry whether the credentials that came with the
// request may pull it, unless the image is public: the shared copy must be no
// way around that.
func (p *Provider) mayRun(ctx context.Context, r Request, rec *Record, digest string) error {
	if p.conf.Public.Covers(rec.Ref) {
		return nil
	}
	if digest == "" {
		return fmt.Errorf("%w: %s does not say which manifest it was published from, so its registry cannot be asked; "+
			"publish it again, or list it under public in the plugin's configuration", control.ErrDenied, rec.Ref)
	}
	registry := registryOf(rec.Ref.Name)
	how := p.conf.Registries[registry]
	ca, err := fileText("registries: "+registry+": ca", how.CA)
	if err != nil {
		return err
	}
	if err := p.daemon.MayPull(ctx, control.PullRequest{
		Image: rec.Ref.Name, Digest: digest, Username: r.Username, Password: r.Password, PlainHTTP: how.PlainHTTP, CA: ca,
	}); err != nil {
		return fmt.Errorf("%s: %w", rec.Ref, err)
	}
	return p.step("asked")
}
