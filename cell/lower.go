package cell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// lower makes a tree ready. It is pinned by its id or its catalog's hash: a
// container keeps what it was created with, whatever revisions come.
func (m *mounted) lower(ctx context.Context, r control.LowerRequest) (control.Lower, error) {
	if err := m.current(); err != nil {
		return control.Lower{}, err
	}
	if err := checkMapping(r); err != nil {
		return control.Lower{}, err
	}
	found, err := m.resolver().resolve(ctx, r.Ref)
	if err != nil {
		return control.Lower{}, kind(err)
	}
	n := pin{Container: control.Container{
		Handle: r.Handle, Ref: r.Ref, Tree: found.lower.Tree, Version: found.lower.Version, Since: time.Now().UTC(),
	}, Droplet: r.Droplet}
	done, err := m.imageLower(ctx, n, &found)
	if !done && err == nil {
		err = m.treeLower(ctx, r, n, &found)
	}
	if err != nil {
		return control.Lower{}, kind(err)
	}
	return found.lower, nil
}

// treeLower makes a tree ready as a directory of the repository's mount.
func (m *mounted) treeLower(ctx context.Context, r control.LowerRequest, n pin, found *resolved) error {
	at, below, err := m.holder(ctx, found.path)
	if err != nil {
		return err
	}
	if found.lower.Mapped, err = m.mapped(ctx, r, at.Path+below); err != nil {
		return err
	}
	n.Catalog, n.Size = at.Catalog, at.Size
	if err := m.pins.pin(ctx, n); err != nil {
		return err
	}
	found.lower.Lower = []string{m.conn.Mountpoint() + at.Path + below}
	return nil
}

// holder returns the tree that holds path and the rest of path below it: a raw
// path need not be the root of a catalog, but it lies in one.
func (m *mounted) holder(ctx context.Context, path string) (_ client.Tree, below string, err error) {
	for at := path; ; at = at[:strings.LastIndexByte(at, '/')] {
		t, err := m.repo.Tree(ctx, at)
		if err == nil || !errors.Is(err, view.ErrInvalid) || at == "" {
			return t, path[len(at):], err
		}
	}
}

// kind gives err the kind that crosses the socket.
func kind(err error) error {
	for _, k := range []error{control.ErrNotFound, control.ErrInvalid, control.ErrUnavailable} {
		if errors.Is(err, k) {
			return err
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", control.ErrNotFound, err)
	case errors.Is(err, fetch.ErrUnavailable), errors.Is(err, fetch.ErrNotFound), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", control.ErrUnavailable, err)
	}
	return err
}
