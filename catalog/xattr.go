package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	xattrVersion = 1
	// maxXAttr bounds names, values (bytes) and the number of attributes:
	// each is one byte in the blob.
	maxXAttr = 255
	// maxXAttrBlob is the size in bytes of the largest blob.
	maxXAttrBlob = 2 + maxXAttr*(2+2*maxXAttr)
)

// EncodeXAttrs returns the blob of CVMFS-FORMAT 2.5, nil for no attributes.
// The order of xattrs does not matter. What a blob cannot hold is
// [ErrInvalid]; [UnfitXAttrs] tells beforehand.
func EncodeXAttrs(xattrs []XAttr) ([]byte, error) {
	if len(xattrs) == 0 {
		return nil, nil
	}
	if len(xattrs) > maxXAttr {
		return nil, fmt.Errorf("%w: %d xattrs, more than %d", ErrInvalid, len(xattrs), maxXAttr)
	}
	if !slices.IsSortedFunc(xattrs, byName) {
		xattrs = slices.SortedFunc(slices.Values(xattrs), byName)
	}
	b := []byte{xattrVersion, byte(len(xattrs))}
	for i, x := range xattrs {
		if !fits(x) {
			return nil, fmt.Errorf("%w: xattr %q with %d bytes does not fit a catalog", ErrInvalid, x.Name, len(x.Value))
		}
		if i > 0 && x.Name == xattrs[i-1].Name {
			return nil, fmt.Errorf("%w: xattr %q twice", ErrInvalid, x.Name)
		}
		b = append(b, byte(len(x.Name)), byte(len(x.Value)))
		b = append(b, x.Name...)
		b = append(b, x.Value...)
	}
	return b, nil
}

// DecodeXAttrs reads a blob and returns its attributes sorted by name. Any
// deviation is [ErrInvalid]: another version, a missing or a left-over byte,
// an empty name, one with a NUL, or one that comes twice. Stock clients take
// such a blob for no attributes.
func DecodeXAttrs(blob []byte) ([]XAttr, error) {
	if len(blob) == 0 {
		return nil, nil
	}
	if len(blob) < 2 || blob[0] != xattrVersion || blob[1] == 0 {
		return nil, fmt.Errorf("%w: xattr blob begins with %x", ErrInvalid, blob[:min(2, len(blob))])
	}
	xattrs := make([]XAttr, 0, blob[1])
	rest := blob[2:]
	for range blob[1] {
		if len(rest) < 2 || len(rest) < 2+int(rest[0])+int(rest[1]) {
			return nil, fmt.Errorf("%w: xattr blob is cut off", ErrInvalid)
		}
		name, value := rest[2:2+int(rest[0])], rest[2+int(rest[0]):2+int(rest[0])+int(rest[1])]
		rest = rest[2+len(name)+len(value):]
		x := XAttr{Name: string(name), Value: slices.Clone(value)}
		if !fits(x) {
			return nil, fmt.Errorf("%w: xattr name %q", ErrInvalid, x.Name)
		}
		xattrs = append(xattrs, x)
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the xattrs", ErrInvalid, len(rest))
	}
	slices.SortFunc(xattrs, byName)
	for i := range xattrs[1:] {
		if xattrs[i].Name == xattrs[i+1].Name {
			return nil, fmt.Errorf("%w: xattr %q twice", ErrInvalid, xattrs[i].Name)
		}
	}
	return xattrs, nil
}

// UnfitXAttrs splits xattrs into what a catalog can hold and what it cannot:
// names and values over 255 bytes, empty names, and, in order of name, all
// beyond 255 attributes. xattrs is left as it is; fit is sorted.
func UnfitXAttrs(xattrs []XAttr) (fit, unfit []XAttr) {
	for _, x := range slices.SortedStableFunc(slices.Values(xattrs), byName) {
		if fits(x) && len(fit) < maxXAttr {
			fit = append(fit, x)
		} else {
			unfit = append(unfit, x)
		}
	}
	return fit, unfit
}

func fits(x XAttr) bool {
	return x.Name != "" && len(x.Name) <= maxXAttr && len(x.Value) <= maxXAttr &&
		strings.IndexByte(x.Name, 0) < 0
}

func byName(a, b XAttr) int { return cmp.Compare(a.Name, b.Name) }
