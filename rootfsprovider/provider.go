// Package rootfsprovider gives Garden's containers their root file systems. It
// is the image plugin (docs/garden.md 1) as a library:
//
//	create:  URI → reference → pinned lower → write layer, quota → overlay → runtime spec
//	delete:  the same, backwards
//	stats, capacity
//
// The lower layers are the cell daemon's; the provider asks for them over
// package control and mounts the overlay itself, in the mount namespace it
// runs in, which is Garden's.
//
// Every process may die at any step. What it leaves is found by its handle
// alone and taken away by the next Delete or Create of that handle, or by GC.
package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
	"github.com/rootstock-cf/rootstock/rootfsprovider/quota"
)

var (
	// ErrExists reports a create of a handle that has a container.
	ErrExists = errors.New("already exists")
	// ErrUnknown reports stats of a handle that has none.
	ErrUnknown = errors.New("unknown container")
	// ErrLimit reports a disk limit that the image alone exceeds.
	ErrLimit = errors.New("disk limit")
)

// undoTimeout bounds cleaning up after a create that failed, whose own context
// may have ended.
const undoTimeout = 30 * time.Second

// Provider makes and removes containers' roots. It keeps nothing in memory;
// any number of processes may work on the same store.
type Provider struct {
	store    store
	daemon   Daemon
	conf     Config
	fallback *Program
	resolver Resolver
	mapping  overlay.Mapping
	quotas   quota.Backends
	log      *slog.Logger
	// step is called after each step of create and delete with its name; a
	// test stops there. An error fails the operation.
	step func(name string) error
}

// Daemon is what the cell's daemon does for the plugin.
type Daemon interface {
	control.Lowers
	control.Asker
	control.Wisher
}

// New returns a provider for a configuration that has been checked.
func New(c Config, daemon Daemon, log *slog.Logger) *Provider {
	cvmfs := CVMFS(c.Repositories)
	paths := Preloaded{Paths: c.Preloaded, CVMFS: cvmfs}
	return &Provider{
		store:    store(c.Store),
		daemon:   daemon,
		conf:     c,
		fallback: c.Fallback,
		resolver: Schemes{"cvmfs": cvmfs, "docker": Docker(c.ImageRepositories), "": paths, "oci": Layouts{paths}},
		mapping:  c.Mapping(),
		quotas:   quota.For(c.Store, c.Pool),
		log:      log,
		step:     func(string) error { return nil },
	}
}

// Request is what Garden asks of a create.
type Request struct {
	URI    string
	Handle string
	// DiskLimit bounds the container in bytes; 0 for no limit. It includes
	// the image, unless ExcludeImage is set.
	DiskLimit    int64
	ExcludeImage bool
	// Username and Password are for the image's registry.
	Username, Password string
}

// check reports a request that is wrong in itself.
func (r Request) check() error {
	if err := control.CheckHandle(r.Handle); err != nil {
		return err
	}
	if r.DiskLimit < 0 {
		return fmt.Errorf("%w of %d bytes is negative", ErrLimit, r.DiskLimit)
	}
	return nil
}

// Create makes a container's root and returns the document for Garden. On
// error nothing of it is left, unless the error says so.
func (p *Provider) Create(ctx context.Context, r Request) (Spec, error) {
	start := time.Now()
	if err := r.check(); err != nil {
		return Spec{}, err
	}
	root, err := p.resolver.Resolve(ctx, r.URI)
	foreign := errors.Is(err, ErrUnsupported) && p.fallback != nil
	if err != nil && !foreign {
		return Spec{}, err
	}
	if err := p.store.init(); err != nil {
		return Spec{}, err
	}
	l, err := takeLock(ctx, p.store.lock(r.Handle))
	if err != nil {
		return Spec{}, fmt.Errorf("container %s: %w", r.Handle, err)
	}
	defer l.release()
	if err := p.makeWay(ctx, r.Handle); err != nil {
		return Spec{}, err
	}
	rec := Record{State: stateCreating, Handle: r.Handle, Created: start.UTC()}
	var spec Spec
	if !foreign {
		rec.Ref = root.Refs[0]
		spec, err = p.create(ctx, r, root, &rec)
		foreign = root.Foreign && p.fallback != nil && errors.Is(err, control.ErrNotFound) && rec.Tree == ""
	}
	if foreign {
		spec.foreign, err = p.delegate(ctx, r, &rec)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if uerr := p.clean(ctx, r.Handle); uerr != nil {
			return Spec{}, fmt.Errorf("%w (and cleaning up: %w)", err, uerr)
		}
		return Spec{}, errors.Join(err, l.remove())
	}
	p.log.Info("created", "handle", r.Handle, "ref", rec.Ref.String(), "tree", rec.Tree, "fallback", rec.Fallback,
		"limit_bytes", rec.LimitBytes, "quota", rec.Quota, "seconds", time.Since(start).Seconds())
	return spec, nil
}

// makeWay refuses a handle that is in use and cleans up after a create that
// died.
func (p *Provider) makeWay(ctx context.Context, handle string) error {
	rec, err := readRecord(p.store.record(handle))
	switch {
	case err == nil && rec.State == stateReady:
		return fmt.Errorf("image for id `%s` %w", handle, ErrExists)
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(p.store.container(handle)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	case err != nil: // it may be a container in use
		return fmt.Errorf("%w; delete %s first", err, handle)
	}
	p.log.Info("cleaning up after a create that did not end", "handle", handle)
	return p.clean(ctx, handle)
}

// create does the steps in order; whatever fails, clean undoes all of them.
func (p *Provider) create(ctx context.Context, r Request, root Root, rec *Record) (Spec, error) {
	if err := newRecord(p.store.record(r.Handle), *rec); err != nil {
		return Spec{}, err
	}
	if err := p.step("recorded"); err != nil {
		return Spec{}, err
	}
	lower, err := p.lower(ctx, r, root, rec)
	if err != nil {
		return Spec{}, err
	}
	// What is left of an unsent release is the same pin, which is ours now.
	if err := os.Remove(p.store.pending(r.Handle)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Spec{}, fmt.Errorf("store: %w", err)
	}
	if err := p.step("pinned"); err != nil {
		return Spec{}, err
	}
	if rec.LimitBytes, err = writeLimit(r, lower.Bytes); err != nil {
		return Spec{}, fmt.Errorf("%s: %w", rec.Ref, err)
	}
	if err := p.trust(ctx, rec, &lower); err != nil {
		return Spec{}, err
	}
	if err := p.writeLayer(ctx, rec, lower); err != nil {
		return Spec{}, err
	}
	if err := p.mount(ctx, rec.Handle, lower); err != nil {
		return Spec{}, err
	}
	if err := p.step("mounted"); err != nil {
		return Spec{}, err
	}
	if root.Droplet != nil {
		if err := p.droplet(ctx, rec.Handle, root.Droplet); err != nil {
			return Spec{}, err
		}
	}
	spec := newSpec(filepath.Join(p.store.container(r.Handle), "rootfs"), lower.Env)
	if spec.Mounts, err = p.buildpacks(ctx, rec); err != nil {
		return Spec{}, err
	}
	rec.State = stateReady
	if err := updateRecord(p.store.record(r.Handle), *rec); err != nil {
		return Spec{}, err
	}
	if err := p.step("ready"); err != nil {
		return Spec{}, err
	}
	return spec, nil
}
