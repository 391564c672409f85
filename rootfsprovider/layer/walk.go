package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// walk goes through a tree by descriptors, so that what is put in the place of a
// directory meanwhile leads nowhere else.
type walk struct {
	ctx context.Context //nolint:containedctx // for the time of the walk
	// visit is told of everything in the tree, directories before what they
	// hold, and says whether it was one.
	visit func(at int, name string) (isDir bool, err error)
	// still is set where nobody changes the tree: what vanishes or is
	// replaced is an error then, and no concern otherwise.
	still bool
}

// tree visits path, which is trusted, and all below it.
func (w *walk) tree(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close() //nolint:errcheck // only read
	if _, err := w.visit(fd, "."); err != nil {
		return err
	}
	return w.dir(dir, 1)
}

func (w *walk) dir(dir *os.File, depth int) error {
	if depth > maxMeasured {
		return fmt.Errorf("directories nest deeper than %d", maxMeasured)
	}
	for {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if err := w.entry(dir, name, depth); err != nil {
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

func (w *walk) entry(dir *os.File, name string, depth int) error {
	isDir, err := w.visit(int(dir.Fd()), name)
	if err != nil || !isDir {
		return w.failed(name, err)
	}
	sub, err := openDir(int(dir.Fd()), name)
	if err != nil {
		return w.failed(name, err)
	}
	defer sub.Close() //nolint:errcheck // only read
	return w.dir(sub, depth+1)
}

// failed is an error about name, nil for one that comes of a change and is no
// concern.
func (w *walk) failed(name string, err error) error {
	if w.still && errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%q: %w", name, err)
	}
	if !w.still && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)) {
		return nil
	}
	return named(name, err)
}
