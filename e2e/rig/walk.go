package rig

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Seen is everything a user can see of a name.
type Seen struct {
	Mode     uint32
	UID, GID uint32
	Size     int64 // not of directories
	MTime    int64 // nanoseconds
	Links    uint64
	Rdev     uint64
	Target   string
	SHA256   string
	XAttrs   map[string]string
	// Twin is the first name of the same inode, where that has several.
	Twin string
}

// Walk lists everything below root by its relative path.
func Walk(t testing.TB, root string) map[string]Seen {
	t.Helper()
	all := map[string]Seen{}
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		all[rel], err = look(path, rel, first)
		return err
	})
	if err != nil {
		t.Fatalf("walk %s: %v", root, err)
	}
	return all
}

func look(path, rel string, first map[uint64]string) (Seen, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Seen{}, err
	}
	s := Seen{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Nano(), Links: uint64(st.Nlink)} //nolint:unconvert // differs by platform
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		s.Size = st.Size
		if s.SHA256, err = Digest(path); err != nil {
			return s, err
		}
	case unix.S_IFLNK:
		s.Size = st.Size
		if s.Target, err = os.Readlink(path); err != nil {
			return s, err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		s.Rdev = st.Rdev
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		if s.Twin = first[st.Ino]; s.Twin == "" {
			s.Twin, first[st.Ino] = rel, rel
		}
	}
	s.XAttrs, err = xattrs(path)
	return s, err
}

// Digest returns the SHA-256 of a file.
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

func xattrs(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil || n == 0 {
		if errors.Is(err, unix.ENOTSUP) {
			err = nil
		}
		return nil, err
	}
	m := map[string]string{}
	value := make([]byte, 64<<10)
	for _, name := range split0(buf[:n]) {
		k, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, err
		}
		m[name] = string(value[:k])
	}
	return m, nil
}

func split0(b []byte) (names []string) {
	for start, i := 0, 0; i < len(b); i++ {
		if b[i] == 0 {
			names = append(names, string(b[start:i]))
			start = i + 1
		}
	}
	return names
}
