package overlay

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// IDRange maps Size ids from Container on, as a container's processes see
// them, to those from Host on.
type IDRange struct {
	Container uint32 `json:"container"`
	Host      uint32 `json:"host"`
	Size      uint32 `json:"size"`
}

// Mapping is a user namespace's. The zero Mapping is the host's own.
type Mapping struct {
	UIDs, GIDs []IDRange
}

// ErrNoIDMap reports a file system or kernel without idmapped mounts.
var ErrNoIDMap = errors.New("cannot be mounted with mapped ids")

// maxRanges is the kernel's limit per namespace.
const maxRanges = 340

// IsZero reports whether m maps nothing: the container has the host's ids.
func (m Mapping) IsZero() bool { return len(m.UIDs) == 0 && len(m.GIDs) == 0 }

// Validate demands users and groups or neither, a container root in both, and
// ranges that neither overlap nor reach 4294967295, which is no id.
func (m Mapping) Validate() error {
	if m.IsZero() {
		return nil
	}
	for _, side := range []struct {
		name   string
		ranges []IDRange
	}{{"uid_maps", m.UIDs}, {"gid_maps", m.GIDs}} {
		if err := validate(side.ranges); err != nil {
			return fmt.Errorf("%s: %w", side.name, err)
		}
	}
	return nil
}

func validate(ranges []IDRange) error {
	if len(ranges) > maxRanges {
		return fmt.Errorf("%d ranges, more than the kernel's %d", len(ranges), maxRanges)
	}
	for i, r := range ranges {
		if r.Size == 0 {
			return fmt.Errorf("range %d is empty", i)
		}
		const most = uint64(^uint32(0)) // 4294967295 itself is no id
		if uint64(r.Container)+uint64(r.Size) > most || uint64(r.Host)+uint64(r.Size) > most {
			return fmt.Errorf("range %d goes beyond id 4294967294", i)
		}
		for j, o := range ranges[:i] {
			if overlap(r.Container, o.Container, r.Size, o.Size) || overlap(r.Host, o.Host, r.Size, o.Size) {
				return fmt.Errorf("ranges %d and %d overlap", j, i)
			}
		}
	}
	if _, ok := host(ranges, 0); !ok {
		return errors.New("no range holds the container's root, id 0")
	}
	return nil
}

func overlap(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

// Host returns the ids on the host of a user and group of the container. ok is
// false for ids outside the mapping, which nobody in the container owns.
func (m Mapping) Host(uid, gid uint32) (hostUID, hostGID uint32, ok bool) {
	if m.IsZero() {
		return uid, gid, true
	}
	hostUID, okUID := host(m.UIDs, uid)
	hostGID, okGID := host(m.GIDs, gid)
	return hostUID, hostGID, okUID && okGID
}

func host(ranges []IDRange, id uint32) (uint32, bool) {
	for _, r := range ranges {
		if id >= r.Container && id-r.Container < r.Size {
			return r.Host + (id - r.Container), true
		}
	}
	return 0, false
}

// UserNamespace makes a user namespace with mapping m and returns a descriptor
// of it, which keeps it alive; the caller closes it.
func UserNamespace(m Mapping) (*os.File, error) {
	// A namespace needs a process to be made. Ours is stopped by ptrace at
	// its exec, so that no instruction of the program runs in it. The tracer
	// is a thread, hence the lock.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	proc, err := os.StartProcess("/proc/self/exe", []string{"rootstock-userns"}, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: sysRanges(m.UIDs),
			GidMappings: sysRanges(m.GIDs),
			Ptrace:      true,
			Pdeathsig:   syscall.SIGKILL,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", proc.Pid))
	err = errors.Join(err, proc.Kill())
	if _, werr := proc.Wait(); werr != nil {
		err = errors.Join(err, werr)
	}
	if err != nil {
		if f != nil {
			f.Close() //nolint:errcheck // the first error counts
		}
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	return f, nil
}

func sysRanges(ranges []IDRange) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(ranges))
	for i, r := range ranges {
		out[i] = syscall.SysProcIDMap{ContainerID: int(r.Container), HostID: int(r.Host), Size: int(r.Size)}
	}
	return out
}

// MountMapped mounts a clone of the mount at source, read-only, at target, an
// existing directory, with the ids of the user namespace userns: what source
// shows as its root's belongs to the container's root. It returns
// [ErrNoIDMap] where kernel or file system cannot.
func MountMapped(source, target string, userns *os.File) error {
	tree, err := cloneMapped(source, userns)
	if err != nil {
		return err
	}
	defer unix.Close(tree) //nolint:errcheck // attached or gone
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("map ids of %s: move_mount to %s: %w", source, target, err)
	}
	return nil
}

// CanMap returns nil if clones of the mount at source can have mapped ids, by
// making one that is mounted nowhere, and an error that wraps [ErrNoIDMap] if
// kernel or file system cannot.
func CanMap(source string) error {
	userns, err := UserNamespace(Mapping{UIDs: []IDRange{{0, 1, 1}}, GIDs: []IDRange{{0, 1, 1}}})
	if err != nil {
		return err
	}
	defer userns.Close() //nolint:errcheck // the mount has its own reference
	tree, err := cloneMapped(source, userns)
	if err != nil {
		return err
	}
	if err := unix.Close(tree); err != nil {
		return fmt.Errorf("map ids of %s: %w", source, err)
	}
	return nil
}

// cloneMapped returns a clone that is mounted nowhere and goes when it is
// closed.
func cloneMapped(source string, userns *os.File) (tree int, err error) {
	tree, err = unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, mapError(source, "open_tree", err)
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set:  unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_RDONLY,
		Userns_fd: uint64(userns.Fd()),
	}); err != nil {
		unix.Close(tree) //nolint:errcheck // the first error counts
		return -1, mapError(source, "mount_setattr", err)
	}
	return tree, nil
}

func mapError(source, call string, err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s %w (%s: %w): EROFS has idmapped mounts since Linux 5.19 (the cell's image tier, from Linux 6.5) "+
			"and FUSE since 6.12 (its tree tier); set rootstock-cell's id_mapping to auto, and let it be of the plugin's release", source, ErrNoIDMap, call, err)
	}
	return fmt.Errorf("map ids of %s: %s: %w", source, call, err)
}
