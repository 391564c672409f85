package imagemeta

import (
	"fmt"
	"strings"

	"github.com/rootstock-cf/rootstock/object"
)

// checkFields reports whether e, apart from its path, is something a listing
// can say, and says it in the one way there is.
func checkFields(e *Entry) error {
	kind := kinds[e.Mode>>12&0xf]
	if kind == kindEnd || e.Mode&^(modeType|modePerm) != 0 {
		return fmt.Errorf("%w: mode %#o", ErrInvalid, e.Mode)
	}
	if e.Nsec >= 1e9 {
		return fmt.Errorf("%w: %d nanoseconds", ErrInvalid, e.Nsec)
	}
	if kind == kindRegular {
		if e.Size < 0 {
			return fmt.Errorf("%w: size of %d bytes", ErrInvalid, e.Size)
		}
		if (e.Size == 0) != (e.Content == object.EmptyContent) || e.Content == noContent {
			return fmt.Errorf("%w: content %s with a size of %d bytes", ErrInvalid, e.Content, e.Size)
		}
	} else if e.Size != 0 || e.Content != noContent {
		return fmt.Errorf("%w: content of what is no regular file", ErrInvalid)
	}
	if kind == kindSymlink {
		if len(e.Target) == 0 || len(e.Target) > MaxTarget || strings.IndexByte(e.Target, 0) >= 0 {
			return fmt.Errorf("%w: symbolic link target of %d bytes", ErrInvalid, len(e.Target))
		}
	} else if e.Target != "" {
		return fmt.Errorf("%w: target of what is no symbolic link", ErrInvalid)
	}
	if kind == kindChar || kind == kindBlock {
		if e.Major > maxMajor || e.Minor > maxMinor {
			return fmt.Errorf("%w: device number %d:%d", ErrInvalid, e.Major, e.Minor)
		}
	} else if e.Major|e.Minor != 0 {
		return fmt.Errorf("%w: device number of what is no device", ErrInvalid)
	}
	if kind == kindDir && e.Link != 0 {
		return fmt.Errorf("%w: hard link to a directory", ErrInvalid)
	}
	return checkXAttrs(e.XAttrs)
}

func checkXAttrs(xattrs []XAttr) error {
	for i := range xattrs {
		x := &xattrs[i]
		if len(x.Name) == 0 || len(x.Name) > MaxXAttrName || strings.IndexByte(x.Name, 0) >= 0 {
			return fmt.Errorf("%w: xattr name of %d bytes", ErrInvalid, len(x.Name))
		}
		if i > 0 && xattrs[i-1].Name >= x.Name {
			return fmt.Errorf("%w: xattr %q out of order", ErrInvalid, x.Name)
		}
		if len(x.Value) > MaxXAttrValue {
			return fmt.Errorf("%w: xattr %q of %d bytes", ErrInvalid, x.Name, len(x.Value))
		}
	}
	return nil
}

// checkName reports whether name can be one component of a path.
func checkName(name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return fmt.Errorf("%w: name of %d bytes", ErrInvalid, len(name))
	}
	if name[0] == '.' && (len(name) == 1 || len(name) == 2 && name[1] == '.') {
		return fmt.Errorf("%w: name %q", ErrInvalid, name)
	}
	if strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("%w: name %q", ErrInvalid, name)
	}
	return nil
}

// SameFile reports whether two entries agree in all but their paths, as the
// members of a hard link group must.
func SameFile(a, b *Entry) bool {
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.MTime != b.MTime || a.Nsec != b.Nsec ||
		a.Size != b.Size || a.Content != b.Content || a.Target != b.Target ||
		a.Major != b.Major || a.Minor != b.Minor || a.Link != b.Link || len(a.XAttrs) != len(b.XAttrs) {
		return false
	}
	for i := range a.XAttrs {
		if a.XAttrs[i].Name != b.XAttrs[i].Name || string(a.XAttrs[i].Value) != string(b.XAttrs[i].Value) {
			return false
		}
	}
	return true
}
