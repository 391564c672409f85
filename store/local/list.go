package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/store"
)

// dirBatch is how many entries of a directory are read at a time.
const dirBatch = 1024

// List calls yield for each regular file whose name starts with prefix, as a
// text: "data/5" is a prefix of "data/5f/…". Objects may be put and deleted
// meanwhile.
func (s *Store) List(ctx context.Context, prefix string, yield func(name string, size int64) error) error {
	if err := checkPrefix(prefix); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	return s.walk(ctx, prefix, func(name string, info fs.FileInfo) error { return yield(name, info.Size()) })
}

// ListAged is List with the times of the files. Those of objects are the
// generation's, dirty.go tells why: when the publish began that put them.
func (s *Store) ListAged(ctx context.Context, prefix string, yield func(name string, size int64, put time.Time) error) error {
	if err := checkPrefix(prefix); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	return s.walk(ctx, prefix, func(name string, info fs.FileInfo) error { return yield(name, info.Size(), info.ModTime()) })
}

func checkPrefix(prefix string) error {
	if p := strings.TrimSuffix(prefix, "/"); p != "" {
		return store.CheckName(p)
	}
	if prefix != "" {
		return fmt.Errorf("prefix %q: %w", prefix, fs.ErrInvalid)
	}
	return nil
}

// walk calls f for each regular file whose name starts with prefix, and for
// each symlink to one, until f fails, whose error it returns as it is.
func (s *Store) walk(ctx context.Context, prefix string, f func(name string, info fs.FileInfo) error) error {
	dir := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i]
	}
	return s.walkDir(ctx, dir, prefix, f)
}

func (s *Store) walkDir(ctx context.Context, dir, prefix string, f func(name string, info fs.FileInfo) error) error {
	d, err := os.Open(s.path(dir))
	if errors.Is(absent(err), fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(dirBatch)
		for _, e := range entries {
			if err := s.visit(ctx, path.Join(dir, e.Name()), e, prefix, f); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("list: %w", err)
		}
	}
}

func (s *Store) visit(ctx context.Context, name string, e fs.DirEntry, prefix string, f func(string, fs.FileInfo) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("list %s: %w", name, err)
	}
	if store.CheckName(name) != nil {
		return nil // ours, or nobody's
	}
	if e.IsDir() || name == "data" { // which may be a link to another disk
		if strings.HasPrefix(name+"/", prefix) || strings.HasPrefix(prefix, name+"/") {
			return s.walkDir(ctx, name, prefix, f)
		}
		return nil
	}
	if !strings.HasPrefix(name, prefix) {
		return nil
	}
	info, err := e.Info()
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		info, err = os.Stat(s.path(name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile, or a dangling link
	} else if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	return f(name, info)
}
