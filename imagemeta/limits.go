package imagemeta

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnsupported reports an entry that a listing could hold but a cell could
// not show as it is.
var ErrUnsupported = errors.New("cannot be shown in a container")

// What the file system a cell writes can carry, in bytes.
const (
	// MaxFileSize is the largest hole one EROFS chunk describes.
	MaxFileSize = 1 << 43
	// MaxXAttrs bounds all extended attributes of a file together, each name
	// and value rounded up as EROFS stores them.
	MaxXAttrs = 256 << 10
)

// marker is the file by which CernVM-FS knows a nested catalog.
const marker = ".cvmfscatalog"

// CheckLimits reports why e must not be published. What it lets pass, an
// EROFS image and an overlay on top of it show as the source had it. It
// returns an error wrapping [ErrInvalid] for what no listing can hold and
// [ErrUnsupported] for the rest.
func CheckLimits(e *Entry) error {
	if err := checkLimits(e); err != nil {
		return fmt.Errorf("%q: %w", e.Path, err)
	}
	return nil
}

func checkLimits(e *Entry) error {
	if err := checkFields(e); err != nil {
		return err
	}
	if len(e.Path) > MaxPath {
		return fmt.Errorf("%w: path of %d bytes, more than %d", ErrInvalid, len(e.Path), MaxPath)
	}
	for rest := e.Path; rest != ""; {
		name, tail, more := strings.Cut(rest, "/")
		if err := checkName(name); err != nil {
			return err
		}
		if more && tail == "" {
			return fmt.Errorf("%w: path ends in a slash", ErrInvalid)
		}
		rest = tail
	}
	if e.Name() == marker {
		return fmt.Errorf("%w: CernVM-FS takes a file of this name for the mark of a nested catalog; remove it from the source", ErrUnsupported)
	}
	if e.Size > MaxFileSize {
		return fmt.Errorf("%w: file of %d bytes, more than %d", ErrUnsupported, e.Size, int64(MaxFileSize))
	}
	if e.Mode&modeType == modeChar && e.Major|e.Minor == 0 {
		return fmt.Errorf("%w: overlayfs takes the character device 0:0 for a deleted file; remove it from the source", ErrUnsupported)
	}
	total := 0
	for _, x := range e.XAttrs {
		if _, _, ok := XAttrPrefix(x.Name); !ok {
			return fmt.Errorf("%w: xattr %q is not of user., trusted., security. or a POSIX ACL", ErrUnsupported, x.Name)
		}
		if strings.HasPrefix(x.Name, "trusted.overlay.") {
			return fmt.Errorf("%w: overlayfs would obey the xattr %q instead of showing it; remove it from the source", ErrUnsupported, x.Name)
		}
		total += 8 + len(x.Name) + len(x.Value)
	}
	if total > MaxXAttrs-512 {
		return fmt.Errorf("%w: xattrs of %d bytes in all, more than %d", ErrUnsupported, total, MaxXAttrs-512)
	}
	return nil
}

// XAttrPrefix splits an xattr's name into the number by which EROFS knows its
// namespace and the rest. ok is false for a name EROFS cannot carry.
func XAttrPrefix(name string) (index byte, rest string, ok bool) {
	switch name {
	case "system.posix_acl_access":
		return 2, "", true
	case "system.posix_acl_default":
		return 3, "", true
	}
	for _, p := range []struct {
		prefix string
		index  byte
	}{{"user.", 1}, {"trusted.", 4}, {"security.", 6}} {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok && rest != "" {
			return p.index, rest, true
		}
	}
	return 0, "", false
}
