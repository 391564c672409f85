package rootfsprovider

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
	"github.com/rootstock-cf/rootstock/rootfsprovider/quota"
)

// writeLimit returns the bytes the write layer may hold, 0 for no limit.
func writeLimit(r Request, image int64) (int64, error) {
	if r.DiskLimit == 0 || r.ExcludeImage {
		return r.DiskLimit, nil
	}
	if r.DiskLimit <= image {
		return 0, fmt.Errorf("%w of %d bytes leaves no room to write: the image has %d; raise the limit above that",
			ErrLimit, r.DiskLimit, image)
	}
	return r.DiskLimit - image, nil
}

// writeLayer makes the container's directory, bounded if there is a limit,
// counted if the store can.
func (p *Provider) writeLayer(ctx context.Context, rec *Record, lower control.Lower) error {
	dir := p.store.container(rec.Handle)
	if err := mkdir(dir, 0o711); err != nil {
		return err
	}
	if rec.LimitBytes > 0 {
		var q quota.Quota
		q, rec.Quota = p.quotas.Probe(dir)
		if err := q.Prepare(ctx, dir, rec.LimitBytes); err != nil {
			return err
		}
		// A file system of its own has a root of its own.
		if err := os.Chmod(dir, 0o711); err != nil { // #nosec G302 -- see store.init
			return fmt.Errorf("write layer: %w", err)
		}
	} else {
		var err error
		if rec.Quota, err = p.quotas.Count(dir); err != nil {
			return err
		}
	}
	if err := p.step("bounded"); err != nil {
		return err
	}
	for _, name := range []string{"upper", "work", "rootfs"} {
		if err := mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	if err := likeRoot(filepath.Join(dir, "upper"), lower.Lower[0], p.mapping); err != nil {
		return err
	}
	return p.step("layered")
}

// likeRoot makes a directory that covers the root of a tree look like it.
func likeRoot(upper, lower string, mapping overlay.Mapping) error {
	var st unix.Stat_t
	if err := unix.Stat(lower, &st); err != nil {
		return fmt.Errorf("lower %s: %w", lower, err)
	}
	uid, gid, ok := mapping.Host(st.Uid, st.Gid)
	if !ok {
		return fmt.Errorf("lower %s belongs to %d:%d, which the container's user namespace does not have; extend uid_maps and gid_maps",
			lower, st.Uid, st.Gid)
	}
	if err := os.Chown(upper, int(uid), int(gid)); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
		return fmt.Errorf("write layer %s: %w", upper, err)
	}
	if err := os.Chtimes(upper, time.Time{}, time.Unix(st.Mtim.Unix())); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	return nil
}

// mkdir makes a directory whose mode the umask has no say in.
func mkdir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	return nil
}

// mount puts the overlay together. Idmapped clones of the lower layers are
// needed only while it is mounted, for it makes its own; none are where the
// daemon has mapped the ids.
func (p *Provider) mount(ctx context.Context, handle string, lower control.Lower) (err error) {
	dir := p.store.container(handle)
	layers := overlay.Layers{
		Lower: lower.Lower, Data: lower.Data, Options: lower.Options,
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
	}
	mapHere := !p.mapping.IsZero() && len(lower.Mapped) == 0
	if len(lower.Mapped) > 0 {
		layers.Lower = lower.Mapped
	}
	if mapHere {
		if layers.Lower, err = p.mapLayers(dir, lower.Lower); err != nil {
			return err
		}
		if err := p.step("mapped"); err != nil {
			return err
		}
	}
	if err := overlay.Mount(layers, filepath.Join(dir, "rootfs")); err != nil {
		return err
	}
	if !mapHere {
		return nil
	}
	return unmapLayers(ctx, dir)
}
