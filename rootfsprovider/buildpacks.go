package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// buildpackDir is below a container's directory.
const buildpackDir = "buildpacks"

// isStack reports whether ref is a version of one of the configured stacks.
func (p *Provider) isStack(ref reference.Reference) bool {
	for _, uri := range p.conf.Stacks {
		s, err := CVMFS(p.conf.Repositories).parse(uri)
		if err == nil && s.Repository == ref.Repository && s.Kind == ref.Kind && s.Name == ref.Name {
			return true
		}
	}
	return false
}

// buildpacks makes the mounts that the rule wants for this container. Each
// buildpack is an overlay of its own, read-only, on layers that the daemon
// keeps for a name made of the handle and a number.
func (p *Provider) buildpacks(ctx context.Context, rec *Record) ([]specs.Mount, error) {
	rule := p.conf.Buildpacks
	if rule == nil || !p.isStack(rec.Ref) {
		return nil, nil
	}
	if ok, err := regexp.MatchString(`\A(?:`+rule.Handles+`)\z`, rec.Handle); err != nil || !ok {
		return nil, err
	}
	base := filepath.Join(p.store.container(rec.Handle), buildpackDir)
	if err := mkdir(base, 0o711); err != nil {
		return nil, err
	}
	var mounts []specs.Mount
	for i, destination := range slices.Sorted(maps.Keys(rule.Mounts)) {
		ref, err := CVMFS(p.conf.Repositories).parse(rule.Mounts[destination])
		if err != nil {
			return nil, err
		}
		lower, err := p.pinMore(ctx, rec.Handle, i, ref)
		if err != nil {
			return nil, fmt.Errorf("buildpack %s: %w", ref, err)
		}
		source := filepath.Join(base, strconv.Itoa(i))
		if err := p.mountBuildpack(lower, source); err != nil {
			return nil, fmt.Errorf("buildpack %s: %w", ref, err)
		}
		mounts = append(mounts, specs.Mount{
			Destination: destination, Type: "bind", Source: source, Options: []string{"bind", "ro", "nosuid", "nodev"},
		})
	}
	return mounts, p.step("buildpacks")
}

// mountBuildpack mounts a tree read-only. An overlay wants something above its
// lowest layer: an empty directory, which is the mount point itself.
func (p *Provider) mountBuildpack(lower control.Lower, at string) error {
	if err := mkdir(at, 0o755); err != nil {
		return err
	}
	return overlay.Mount(overlay.Layers{Lower: append([]string{at}, lower.Lower...), Data: lower.Data, Options: lower.Options}, at)
}

func unmountBuildpacks(ctx context.Context, dir string) error {
	base := filepath.Join(dir, buildpackDir)
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("buildpacks: %w", err)
	}
	for _, e := range entries {
		if _, err := overlay.Unmount(ctx, filepath.Join(base, e.Name())); err != nil {
			return fmt.Errorf("buildpacks: %w", err)
		}
	}
	return nil
}

// pinMore has the daemon keep a further tree for a container. That it may is
// noted on disk before it is asked.
func (p *Provider) pinMore(ctx context.Context, handle string, n int, ref reference.Reference) (control.Lower, error) {
	name := handle + "+" + strconv.Itoa(n)
	if err := control.CheckHandle(name); err != nil {
		return control.Lower{}, err
	}
	// Whoever sends a release of the same name that is still owed holds this
	// lock, too.
	l, err := takeLock(ctx, p.store.lock(name))
	if err != nil {
		return control.Lower{}, err
	}
	defer l.remove() //nolint:errcheck // an empty file, which the next lock uses
	dir := p.store.pins(handle)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return control.Lower{}, fmt.Errorf("store: %w", err)
	}
	note := filepath.Join(dir, name)
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		return control.Lower{}, fmt.Errorf("store: %w", err)
	}
	if err := errors.Join(syncDir(note), syncDir(dir)); err != nil {
		return control.Lower{}, err
	}
	if err := p.step("noted " + strconv.Itoa(n)); err != nil {
		return control.Lower{}, err
	}
	lower, err := p.daemon.Lower(ctx, control.LowerRequest{Ref: ref, Handle: name})
	if err != nil {
		return control.Lower{}, err
	}
	if err := os.Remove(p.store.pending(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return control.Lower{}, fmt.Errorf("store: %w", err)
	}
	return lower, checkLower(lower)
}

// releasePins turns a container's further pins into releases that are owed and
// sends them.
func (p *Provider) releasePins(ctx context.Context, handle string) error {
	dir := p.store.pins(handle)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(dir, e.Name()), p.store.pending(e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("pins: %w", err)
		}
		if err := p.release(ctx, e.Name()); err != nil {
			return err
		}
		// Left by a create that died.
		if l, err := tryLock(p.store.lock(e.Name())); err == nil {
			if err := l.remove(); err != nil {
				return err
			}
		}
	}
	if err := p.step("unpinned"); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("pins: %w", err)
	}
	return nil
}
