package layer

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrNoOwner reports an owner that the function given to [Chown] does not know.
var ErrNoOwner = errors.New("owner has no id")

// Chown gives everything in the tree at path, and path itself, the owner that
// owner makes of the one it has; set-id bits stay. Nobody else may change the
// tree meanwhile.
func Chown(ctx context.Context, path string, owner func(uid, gid uint32) (u, g uint32, ok bool)) error {
	c := chowner{owner: owner, seen: map[uint64]struct{}{}}
	w := walk{ctx: ctx, visit: c.one, still: true}
	if err := w.tree(path); err != nil {
		return fmt.Errorf("change owners in %s: %w", path, err)
	}
	return nil
}

type chowner struct {
	owner func(uid, gid uint32) (u, g uint32, ok bool)
	seen  map[uint64]struct{} // inodes with several names
}

func (c *chowner) one(at int, name string) (isDir bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	isDir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir && st.Nlink > 1 {
		if _, ok := c.seen[st.Ino]; ok {
			return false, nil
		}
		c.seen[st.Ino] = struct{}{}
	}
	uid, gid, ok := c.owner(st.Uid, st.Gid)
	if !ok {
		return false, fmt.Errorf("%w: %d:%d is not in uid_maps and gid_maps; extend them", ErrNoOwner, st.Uid, st.Gid)
	}
	if err := unix.Fchownat(at, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		return false, unix.Fchmodat(at, name, st.Mode&0o7777, 0) // which chown took
	}
	return isDir, nil
}
