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
// names of symbolic links in the directory IDs, on the same file system, which
// lead to the name of the bounded directory: two processes never take the same
// one, and what a dying process took is found again.
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
	return p.enter(dir, limit)
}

// Count makes [Project.Usage] of dir, an empty directory, known without
// bounding it.
func (p Project) Count(dir string) error { return p.enter(dir, 0) }

// enter gives dir a project of its own with a limit, 0 for none.
func (p Project) enter(dir string, limit int64) error {
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
	ids, err := os.Open(p.IDs)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nobody ever had a project
	}
	if err != nil {
		return fmt.Errorf("project quota: %w", err)
	}
	defer ids.Close() //nolint:errcheck // only asked
	name := filepath.Base(dir)
	for _, id := range candidates(name) {
		if owner, err := os.Readlink(p.link(id)); err != nil || owner != name {
			continue
		}
		// The id goes back last: nobody else may get it with our bound.
		if err := errors.Join(p.leave(dir, id), p.setLimit(ids, id, 0)); err != nil {
			return fmt.Errorf("project quota of %s: %w", dir, err)
		}
		if err := p.drop(id); err != nil {
			return fmt.Errorf("project quota of %s: %w", dir, err)
		}
	}
	return nil
}

// leave takes dir, if it is there, out of project id, if it is in it.
func (p Project) leave(dir string, id uint32) error {
	d, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // only asked
	if in, err := p.project(d); err != nil || in != id {
		return err
	}
	return p.setProject(d, 0)
}

func ours(id uint32) bool { return id >= firstID && id-firstID < idCount }

func (p Project) link(id uint32) string {
	return filepath.Join(p.IDs, strconv.FormatUint(uint64(id), 10))
}

// candidates are the ids a directory of that name may get, in order.
func candidates(name string) (ids [16]uint32) {
	h := fnv.New32a()
	h.Write([]byte(name)) //nolint:errcheck // a hash.Hash never fails
	for i := range ids {
		ids[i] = firstID + (h.Sum32()+uint32(i))%idCount // #nosec G115 -- below 16
	}
	return ids
}

// take reserves an id.
func (p Project) take(name string) (uint32, error) {
	if err := os.MkdirAll(p.IDs, 0o700); err != nil {
		return 0, err
	}
	for _, id := range candidates(name) {
		switch err := os.Symlink(name, p.link(id)); {
		case err == nil:
			return id, nil
		case !errors.Is(err, os.ErrExist):
			return 0, err
		}
	}
	return 0, fmt.Errorf("all project ids that it may have are in use; look into %s", p.IDs)
}

func (p Project) drop(id uint32) error {
	if err := os.Remove(p.link(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
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
