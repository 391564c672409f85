package source

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	xattrRecord = "SCHILY.xattr."
	maxXAttrs   = 64 << 10 // bytes, the kernel's own bound of a list and of a value
)

// header describes the open inode fd. The name of a directory ends in a slash.
func (w *walk) header(name string, st *unix.Stat_t, fd int) (*tar.Header, error) {
	h := &tar.Header{
		Name: strings.TrimPrefix(name, "/"), Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
	if h.Name == "" {
		h.Name = "./"
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		target, err := readLink(fd)
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFSOCK:
		// A tar has no type for it; whoever reads the mode knows.
		h.Typeflag, h.Mode = tar.TypeReg, int64(st.Mode)
		return h, nil
	default:
		return nil, fmt.Errorf("%w: a file of type %o", ErrUnsupported, st.Mode&unix.S_IFMT)
	}
	return h, takeXAttrs(h, st, fd)
}

func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", fmt.Errorf("read link: %w", err)
	}
	return string(buf[:n]), nil
}

// takeXAttrs reads the extended attributes, capabilities and ACLs among them.
func takeXAttrs(h *tar.Header, st *unix.Stat_t, fd int) error {
	list, get := func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) }
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	default: // opened with O_PATH
		p := procPath(fd)
		list, get = func(b []byte) (int, error) { return unix.Listxattr(p, b) },
			func(name string, b []byte) (int, error) { return unix.Getxattr(p, name, b) }
	}
	names, err := grow(list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("extended attributes: %w", err)
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value, err := grow(func(b []byte) (int, error) { return get(string(name), b) })
		if errors.Is(err, unix.ENODATA) {
			return errChanged
		}
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
		if bytes.IndexByte(name, '=') >= 0 {
			return fmt.Errorf("%w: extended attribute %q has a name that no tar can hold", ErrUnsupported, name)
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrRecord+string(name)] = string(value)
	}
	return nil
}

// grow calls read with a buffer that is large enough.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 16 {
		buf := make([]byte, min(size, maxXAttrs))
		n, err := read(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size >= maxXAttrs {
			return nil, err
		}
	}
}
