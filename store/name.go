package store

import (
	"fmt"
	"io/fs"
	"strings"
)

// maxName bounds a name, in bytes.
const maxName = 1024

// CheckName returns an error that wraps fs.ErrInvalid for a name that no store
// may hold: one that is not a clean relative path, that has bytes which are
// not printable ASCII, or that a store keeps for itself (data/txn and what
// starts with .rootstock, in any directory). Every implementation calls it first.
func CheckName(name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("name of %d bytes: %w: at most %d are allowed", len(name), fs.ErrInvalid, maxName)
	case name == "." || !fs.ValidPath(name):
		return fmt.Errorf("name %q: %w: it is not a clean relative path", name, fs.ErrInvalid)
	case name == "data/txn" || strings.HasPrefix(name, "data/txn/") || strings.Contains("/"+name, "/.rootstock"):
		return fmt.Errorf("name %q: %w: the store keeps it for itself", name, fs.ErrInvalid)
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' || name[i] == '\\' {
			return fmt.Errorf("name %q: %w: byte %q at position %d", name, fs.ErrInvalid, name[i], i+1)
		}
	}
	return nil
}

// IsObject reports whether name is that of an immutable object rather than of
// a root file.
func IsObject(name string) bool { return strings.HasPrefix(name, "data/") }
