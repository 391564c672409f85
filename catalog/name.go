package catalog

import (
	"fmt"
	"strings"
)

const (
	maxName    = 255     // bytes
	maxSymlink = 4096    // bytes
	maxPath    = 8 << 10 // bytes
)

// checkName refuses what is not a single path component.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName ||
		strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("%w: name %q", ErrInvalid, name)
	}
	return nil
}

// CheckPath refuses, with [ErrInvalid], what is not the path of an entry:
// absolute, without trailing slash, of components that are names; the root is
// the empty string (CVMFS-FORMAT 2.3).
func CheckPath(path string) error {
	if path == "" {
		return nil
	}
	if path[0] != '/' || len(path) > maxPath {
		return fmt.Errorf("%w: path %q", ErrInvalid, path)
	}
	for name := range strings.SplitSeq(path[1:], "/") {
		if err := checkName(name); err != nil {
			return fmt.Errorf("path %q: %w", path, err)
		}
	}
	return nil
}

// nameOf returns the last component of a path, nothing for the root.
func nameOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// below reports whether path is dir or lies below it.
func below(path, dir string) bool {
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

// parentKey is the key the row of path states as its parent's: the root has
// none.
func parentKey(path string) PathKey {
	if path == "" {
		return PathKey{}
	}
	return KeyOf(Parent(path))
}
