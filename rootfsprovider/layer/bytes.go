package layer

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bytes returns the bytes that the tree at path takes up on its file system,
// directories included, files with several names once. What vanishes
// meanwhile is not counted. It reads the whole tree: a quota knows the number
// without that.
func Bytes(ctx context.Context, path string) (int64, error) {
	m := meter{seen: map[uint64]struct{}{}}
	w := walk{ctx: ctx, visit: m.add}
	if err := w.tree(path); err != nil {
		return 0, fmt.Errorf("measure %s: %w", path, err)
	}
	return m.bytes, nil
}

type meter struct {
	bytes int64
	seen  map[uint64]struct{} // inodes with several names
}

func (m *meter) add(at int, name string) (isDir bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	isDir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir && st.Nlink > 1 {
		if _, ok := m.seen[st.Ino]; ok {
			return false, nil
		}
		m.seen[st.Ino] = struct{}{}
	}
	m.bytes += st.Blocks * 512
	return isDir, nil
}
