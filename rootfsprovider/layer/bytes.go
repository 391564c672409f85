package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Bytes returns the bytes that the tree at path takes up on its file system,
// directories included, files with several names once. What vanishes
// meanwhile is not counted. It reads the whole tree: a quota knows the number
// without that.
func Bytes(ctx context.Context, path string) (int64, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close() //nolint:errcheck // only read
	m := meter{ctx: ctx, seen: make(map[uint64]struct{})}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("measure %s: %w", path, err)
	}
	m.add(&st)
	if err := m.dir(dir, 1); err != nil {
		return 0, fmt.Errorf("measure %s: %w", path, err)
	}
	return m.bytes, nil
}

type meter struct {
	ctx   context.Context
	bytes int64
	seen  map[uint64]struct{} // inodes with several names
}

func (m *meter) add(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if _, ok := m.seen[st.Ino]; ok {
			return
		}
		m.seen[st.Ino] = struct{}{}
	}
	m.bytes += st.Blocks * 512
}

func (m *meter) dir(dir *os.File, depth int) error {
	if depth > maxMeasured {
		return fmt.Errorf("directories nest deeper than %d", maxMeasured)
	}
	for {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if err := m.entry(dir, name, depth); err != nil {
				return err
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

func (m *meter) entry(dir *os.File, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		m.add(&st)
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return named(name, err)
	}
	sub, err := openDir(int(dir.Fd()), name)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) { // replaced meanwhile
		return nil
	}
	if err != nil {
		return named(name, err)
	}
	defer sub.Close() //nolint:errcheck // only read
	return m.dir(sub, depth+1)
}
