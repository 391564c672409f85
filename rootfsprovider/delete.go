package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/rootfsprovider/layer"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// releaseTimeout bounds waiting for a daemon that hangs: a release has nothing
// to fetch.
const releaseTimeout = 10 * time.Second

// Delete removes a container's root, and what a create that died has left. A
// handle that is unknown is no error. Where the daemon does not answer, the
// container is gone nevertheless and the daemon is told later, by a Delete or
// GC that reaches it.
func (p *Provider) Delete(ctx context.Context, handle string) error {
	if err := control.CheckHandle(handle); err != nil {
		// Create refused it, and Garden deletes after a failed create.
		p.log.Debug("nothing to delete", "error", err.Error())
		return nil
	}
	if !p.knows(handle) {
		return p.passOn(ctx, handle)
	}
	l, err := takeLock(ctx, p.store.lock(handle))
	if err != nil {
		return fmt.Errorf("container %s: %w", handle, err)
	}
	if err := p.clean(ctx, handle); err != nil {
		l.release()
		return fmt.Errorf("container %s: %w", handle, err)
	}
	if err := l.remove(); err != nil {
		return err
	}
	p.log.Info("deleted", "handle", handle)
	p.settle(ctx, handle)
	return nil
}

// settle tells the daemon, if it has just been told of handle, what it could
// not be told before. That is nothing, nearly always.
func (p *Provider) settle(ctx context.Context, handle string) {
	if _, err := os.Lstat(p.store.pending(handle)); err == nil {
		return
	}
	owed, err := os.ReadDir(filepath.Dir(p.store.pending(handle)))
	if err != nil {
		p.log.Error("releases that are owed", "error", err.Error())
	}
	for _, e := range owed {
		if _, err := p.collect(ctx, e.Name()); err != nil {
			p.log.Error("release that is owed", "handle", e.Name(), "error", err.Error())
		}
	}
}

// knows reports whether the store holds anything of the handle. A create under
// way has written its record or at least taken its lock.
func (p *Provider) knows(handle string) bool {
	for _, path := range []string{
		p.store.lock(handle), p.store.record(handle), p.store.container(handle), p.store.pending(handle),
		p.store.delegated(handle), p.store.pins(handle),
	} {
		if _, err := os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// clean takes everything of a handle away, in the reverse order of create. It
// needs the handle's lock and nothing else; every step may have been done
// before.
func (p *Provider) clean(ctx context.Context, handle string) error {
	if err := p.undelegate(ctx, handle); err != nil {
		return err
	}
	dir := p.store.container(handle)
	lazy, err := overlay.Unmount(ctx, filepath.Join(dir, "rootfs"))
	if err != nil {
		return err
	}
	if lazy {
		p.log.Info("the root was still in use and has been detached", "handle", handle)
	}
	if err := p.step("unmounted"); err != nil {
		return err
	}
	if err := errors.Join(unmountBuildpacks(ctx, dir), unmapLayers(ctx, dir)); err != nil {
		return err
	}
	if err := p.quotas.Remove(ctx, dir); err != nil {
		return err
	}
	if err := p.step("unbounded"); err != nil {
		return err
	}
	if err := layer.RemoveAll(ctx, dir); err != nil {
		return err
	}
	if err := p.step("removed"); err != nil {
		return err
	}
	if err := p.releasePins(ctx, handle); err != nil {
		return err
	}
	// From here on the handle is free, and a release is owed.
	if err := os.Rename(p.store.record(handle), p.store.pending(handle)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("record: %w", err)
	}
	if err := p.step("forgotten"); err != nil {
		return err
	}
	return p.release(ctx, handle)
}

// release tells the daemon what it is owed. A daemon that does not answer is
// told later.
func (p *Provider) release(ctx context.Context, handle string) error {
	calling, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	switch err := p.daemon.Release(calling, handle); {
	case errors.Is(err, control.ErrUnavailable):
		p.log.Info("the daemon will be told later", "handle", handle, "error", err.Error())
		return nil
	case err != nil:
		return fmt.Errorf("release: %w", err)
	}
	if err := os.Remove(p.store.pending(handle)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

// owes reports whether anything but a lock is left of a handle.
func (p *Provider) owes(handle string) bool {
	for _, path := range []string{p.store.container(handle), p.store.pending(handle), p.store.delegated(handle), p.store.pins(handle)} {
		if _, err := os.Lstat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// GC cleans up after creates and deletes that died, and releases what the
// daemon could not be told. It leaves alone what is in use or being worked on,
// goes on after an error, and returns the handles it cleaned.
func (p *Provider) GC(ctx context.Context) (cleaned []string, err error) {
	handles, err := p.store.handles()
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, h := range handles {
		done, err := p.collect(ctx, h)
		if err != nil {
			failed = append(failed, fmt.Errorf("container %s: %w", h, err))
		}
		if done {
			cleaned = append(cleaned, h)
		}
	}
	if err := p.collectCertificates(ctx); err != nil {
		failed = append(failed, err)
	}
	if err := p.quotas.Drain(ctx); err != nil {
		failed = append(failed, err)
	}
	return cleaned, errors.Join(failed...)
}

func (p *Provider) collect(ctx context.Context, handle string) (done bool, err error) {
	l, err := tryLock(p.store.lock(handle))
	if errors.Is(err, errLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch rec, err := readRecord(p.store.record(handle)); {
	case errors.Is(err, fs.ErrNotExist) && !p.owes(handle): // somebody was quicker
		return false, l.remove()
	case err == nil && rec.State == stateReady:
		l.release()
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist): // it may be a container in use
		l.release()
		return false, fmt.Errorf("%w; delete it", err)
	}
	if err := p.clean(ctx, handle); err != nil {
		l.release()
		return false, err
	}
	return true, l.remove()
}
