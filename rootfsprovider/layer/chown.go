package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoOwner reports an owner that the function given to [Chown] does not know.
var ErrNoOwner = errors.New("owner has no id")

// Chown gives everything in the tree at path, and path itself, the owner that
// owner makes of the one it has; set-id bits stay. Nobody else may change the
// tree meanwhile.
func Chown(ctx context.Context, path string, owner func(uid, gid uint32) (u, g uint32, ok bool)) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("change owners in %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close() //nolint:errcheck // only read
	c := chowner{ctx: ctx, owner: owner, seen: map[uint64]struct{}{}}
	if _, err = c.one(fd, "."); err == nil {
		err = c.dir(dir, 1)
	}
	if err != nil {
		return fmt.Errorf("change owners in %s: %w", path, err)
	}
	return nil
}

type chowner struct {
	ctx   context.Context
	owner func(uid, gid uint32) (u, g uint32, ok bool)
	seen  map[uint64]struct{} // inodes with several names
}

func (c *chowner) dir(dir *os.File, depth int) error {
	if depth > maxMeasured {
		return fmt.Errorf("directories nest deeper than %d", maxMeasured)
	}
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if err := c.entry(dir, name, depth); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *chowner) entry(dir *os.File, name string, depth int) error {
	isDir, err := c.one(int(dir.Fd()), name)
	if err != nil || !isDir {
		return err
	}
	sub, err := openDir(int(dir.Fd()), name)
	if err != nil {
		return err
	}
	defer sub.Close() //nolint:errcheck // only read
	return c.dir(sub, depth+1)
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
