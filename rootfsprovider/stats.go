package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/rootfsprovider/layer"
)

// Stats is how much disk a container uses, as Garden reads it.
type Stats struct {
	DiskUsage DiskUsage `json:"disk_usage"`
}

// DiskUsage is in bytes. Diego takes the difference for the image's size and
// adds it to the limit of total scope that it asks for, so it has to be the
// size that create subtracts.
type DiskUsage struct {
	Total     int64 `json:"total_bytes_used"`
	Exclusive int64 `json:"exclusive_bytes_used"`
}

// Stats returns a container's disk usage, or [ErrUnknown].
func (p *Provider) Stats(ctx context.Context, handle string) (Stats, error) {
	if err := control.CheckHandle(handle); err != nil {
		return Stats{}, err
	}
	rec, err := readRecord(p.store.record(handle))
	if errors.Is(err, fs.ErrNotExist) || err == nil && rec.State == stateReady && rec.Fallback {
		return p.fallbackStats(ctx, handle)
	}
	if err == nil && rec.State != stateReady {
		return Stats{}, fmt.Errorf("%w %s", ErrUnknown, handle)
	}
	if err != nil {
		return Stats{}, err
	}
	used, err := p.used(ctx, rec)
	if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile, or not mounted since a reboot
		return Stats{}, fmt.Errorf("%w %s: %w", ErrUnknown, handle, err)
	}
	if err != nil {
		return Stats{}, err
	}
	return Stats{DiskUsage{Total: rec.ImageBytes + used, Exclusive: used}}, nil
}

// used returns the bytes in the write layer: from its quota or its project
// where it has one, by walking it otherwise, which is a container without a
// limit on a store without project quotas.
func (p *Provider) used(ctx context.Context, rec Record) (int64, error) {
	dir := p.store.container(rec.Handle)
	if rec.Quota == "" {
		return layer.Bytes(ctx, filepath.Join(dir, "upper"))
	}
	q, err := p.quotas.Named(rec.Quota)
	if err != nil {
		return 0, err
	}
	return q.Usage(dir)
}

// Capacity is the size of the store's file system, as Garden reads it.
type Capacity struct {
	Bytes int64 `json:"capacity"`
}

// Capacity returns the size of the store's file system, which it creates if
// need be.
func (p *Provider) Capacity() (Capacity, error) {
	if err := p.store.make(); err != nil {
		return Capacity{}, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(string(p.store), &st); err != nil {
		return Capacity{}, fmt.Errorf("store %s: %w", p.store, err)
	}
	return Capacity{int64(st.Blocks) * st.Frsize}, nil // #nosec G115 -- bytes on a disk
}
