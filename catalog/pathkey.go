package catalog

import (
	"crypto/md5" // #nosec G501 -- a format constant
	"encoding/binary"
)

// PathKey is the MD5 of a path in the two signed halves the database stores
// (CVMFS-FORMAT 2.3).
type PathKey struct{ A, B int64 }

// KeyOf returns the key of an absolute path without trailing slash; the
// repository's root is the empty string.
func KeyOf(path string) PathKey {
	d := md5.Sum([]byte(path)) // #nosec G401
	return PathKey{
		A: int64(binary.LittleEndian.Uint64(d[:8])), // #nosec G115 -- wraps on purpose
		B: int64(binary.LittleEndian.Uint64(d[8:])), // #nosec G115
	}
}

// Parent returns the path of the directory holding path: "" for a child of the
// root. It must not be called for the root itself.
func Parent(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return ""
}
