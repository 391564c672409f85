package quota

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"
)

// Project bounds a directory with a project quota of the xfs or ext4 it lies
// on. Everything made in the directory inherits its project id. IDs in use are
// names of empty files in the directory IDs, so that two processes never take
// the same one.
//
// What runs with all capabilities of the host can take its files out of a
// project; containers that are to be bounded against their will have a user
// namespace.
type Project struct {
	IDs string // directory, created if need be
	sys kernel // nil for the real one
}

// Project ids are taken from a range of their own, away from the small numbers
// that administrators and grootfs use.
const (
	firstID = 0x52000000
	idCount = 1 << 24
)

// Prepare implements [Quota].
func (p Project) Prepare(_ context.Context, dir string, limit int64) error {
	if limit < 1 {
		return fmt.Errorf("limit of %d bytes is not at least 1", limit)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("project quota: %w", err)
	}
	defer d.Close() //nolint:errcheck // only asked
	id, err := p.take(filepath.Base(dir))
	if err != nil {
		return fmt.Errorf("project quota of %s: %w", dir, err)
	}
	// The bound stands before the first thing counts against it.
	if err := p.setLimit(d, id, limit); err != nil {
		return fmt.Errorf("project quota of %s: %w", dir, errors.Join(err, p.drop(id)))
	}
	if err := p.setProject(d, id); err != nil {
		return fmt.Errorf("project quota of %s: %w", dir, errors.Join(err, p.setLimit(d, id, 0), p.drop(id)))
	}
	return nil
}

// Usage implements [Quota].
func (p Project) Usage(dir string) (int64, error) {
	d, err := os.Open(dir)
	if err != nil {
		return 0, fmt.Errorf("project quota: %w", err)
	}
	defer d.Close() //nolint:errcheck // only asked
	id, err := p.project(d)
	if err != nil || !ours(id) {
		return 0, fmt.Errorf("%s has no project quota of ours: %w", dir, errors.Join(err, os.ErrNotExist))
	}
	q := diskQuota{Version: quotaVersion, Flags: projectFlag, ID: id}
	if err := p.kernel().quotactl(d, xGetQuota, id, unsafe.Pointer(&q)); err != nil {
		return 0, fmt.Errorf("project quota of %s: %w", dir, err)
	}
	return int64(q.Blocks) * basicBlock, nil // #nosec G115 -- bytes on a disk
}

// Remove implements [Quota].
func (p Project) Remove(_ context.Context, dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("project quota: %w", err)
	}
	defer d.Close() //nolint:errcheck // only asked
	id, err := p.project(d)
	if err != nil || !ours(id) {
		return nil // a file system without projects, or a directory without a quota
	}
	// The id goes back last: nobody else may get it with our bound.
	if err := errors.Join(p.setProject(d, 0), p.setLimit(d, id, 0)); err != nil {
		return fmt.Errorf("project quota of %s: %w", dir, err)
	}
	return p.drop(id)
}

func ours(id uint32) bool { return id >= firstID && id-firstID < idCount }

func (p Project) file(id uint32) string {
	return filepath.Join(p.IDs, strconv.FormatUint(uint64(id), 10))
}

// take reserves an id. The name's hash says where to look first.
func (p Project) take(name string) (uint32, error) {
	if err := os.MkdirAll(p.IDs, 0o700); err != nil {
		return 0, err
	}
	h := fnv.New32a()
	h.Write([]byte(name)) //nolint:errcheck // a hash.Hash never fails
	start := h.Sum32()
	for i := range uint32(1000) {
		id := firstID + (start+i)%idCount
		f, err := os.OpenFile(p.file(id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return id, f.Close()
	}
	return 0, fmt.Errorf("1000 project ids in a row are in use; look into %s", p.IDs)
}

func (p Project) drop(id uint32) error {
	if err := os.Remove(p.file(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Enforced reports whether the file system that dir lies on enforces project
// quotas.
func (p Project) Enforced(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close() //nolint:errcheck // only asked
	var s quotaState
	return p.kernel().quotactl(d, xGetState, 0, unsafe.Pointer(&s)) == nil && s.Flags&projectEnforced != 0
}

func (p Project) setLimit(d *os.File, id uint32, limit int64) error {
	blocks := uint64(limit+basicBlock-1) / basicBlock // #nosec G115 -- never negative
	q := diskQuota{
		Version: quotaVersion, Flags: projectFlag, ID: id,
		Fields: fieldSoft | fieldHard, Hard: blocks,
	}
	if err := p.kernel().quotactl(d, xSetLimit, id, unsafe.Pointer(&q)); err != nil {
		return fmt.Errorf("limit of project %d: %w", id, err)
	}
	return nil
}

func (p Project) kernel() kernel {
	if p.sys == nil {
		return linux{}
	}
	return p.sys
}

// project returns the project id of an open directory.
func (p Project) project(d *os.File) (uint32, error) {
	var a fsxattr
	err := p.kernel().ioctl(d, fsGetXattr, unsafe.Pointer(&a))
	return a.Project, err
}

// setProject gives an open directory, and what will be made in it, a project.
func (p Project) setProject(d *os.File, id uint32) error {
	var a fsxattr
	if err := p.kernel().ioctl(d, fsGetXattr, unsafe.Pointer(&a)); err != nil {
		return fmt.Errorf("attributes of %s: %w", d.Name(), err)
	}
	a.Project = id
	a.Flags |= inheritFlag
	if id == 0 {
		a.Flags &^= inheritFlag
	}
	if err := p.kernel().ioctl(d, fsSetXattr, unsafe.Pointer(&a)); err != nil {
		return fmt.Errorf("project of %s: %w", d.Name(), err)
	}
	return nil
}
