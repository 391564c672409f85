package flatten

import (
	"archive/tar"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

const (
	maxXAttrName  = 255
	maxXAttrValue = 65535
	xattrPrefix   = "SCHILY.xattr."
	permissions   = 0o7777
)

// inode is everything of an entry but its name. Hard links share one.
type inode struct {
	mode         uint32
	uid, gid     uint32
	major, minor uint32
	nsec         uint32
	mtime        int64
	size         int64
	content      object.ContentID // zero while it was skipped
	known        object.ContentID // what it was when the layer was last read, not yet adopted
	inline       []byte           // a content that was hidden, kept for the Memory; never empty but for an empty file
	target       string
	xattrs       []imagemeta.XAttr

	// from says where a skipped content lies: the layer, and the number of
	// the entry in it.
	layer, number int32

	links uint32 // names in the final tree
	group uint32
}

func (i *inode) kind() uint32    { return i.mode & catalog.ModeType }
func (i *inode) isDir() bool     { return i.kind() == catalog.ModeDir }
func (i *inode) isRegular() bool { return i.kind() == catalog.ModeRegular }
func (i *inode) isSymlink() bool { return i.kind() == catalog.ModeSymlink }

// recordKind says what a tar entry asks for.
type recordKind uint8

const (
	entry    recordKind = iota // something of its own: ino
	hardlink                   // another name of target
	whiteout                   // remove path of lower layers
	opaque                     // remove all below path of lower layers
)

// record is one tar entry, apart from its content.
type record struct {
	path   string // clean, as written
	target string // of a hard link: clean, as written
	ino    *inode // of an entry
	number int32  // of the entry in its layer
	kind   recordKind
}

// fileTypes maps tar's type flags to st_mode.
var fileTypes = map[byte]uint32{
	tar.TypeReg: catalog.ModeRegular, tar.TypeCont: catalog.ModeRegular, tar.TypeGNUSparse: catalog.ModeRegular,
	tar.TypeDir: catalog.ModeDir, tar.TypeSymlink: catalog.ModeSymlink, tar.TypeFifo: catalog.ModeFIFO,
	tar.TypeChar: catalog.ModeChar, tar.TypeBlock: catalog.ModeBlock,
}

// unsaid is parse's reason for what is left out without loss.
const unsaid = "-"

// parse turns a header into a record. skip is not empty for what a tree leaves
// out, and says why. In a plain tar no name is a whiteout.
func parse(h *tar.Header, plain bool) (r record, skip string, err error) {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		if len(h.PAXRecords) > 0 && (len(h.PAXRecords) > 1 || h.PAXRecords["comment"] == "") {
			return r, "a global PAX header is not applied", nil
		}
		return r, unsaid, nil
	case 'V':
		return r, "a volume label", nil
	}
	if r.path, err = clean(h.Name); err != nil {
		return r, "", err
	}
	if h.Mode&catalog.ModeType == catalog.ModeSocket {
		return r, "a socket, which only a running process can make", nil
	}
	if !plain {
		if skip, err = r.marked(); skip != "" || err != nil || r.kind != entry {
			return r, skip, err
		}
	}
	if h.Typeflag == tar.TypeLink {
		r.kind = hardlink
		if r.target, err = clean(h.Linkname); err != nil {
			return r, "", fmt.Errorf("hard link to %q: %w", h.Linkname, err)
		}
		return r, "", nil
	}
	r.ino, err = newInode(h)
	return r, "", err
}

// marked turns a record whose name is an image layer's mark into what the mark
// means. skip is as of parse.
func (r *record) marked() (skip string, err error) {
	parent, base := split(r.path)
	if !strings.HasPrefix(base, whPrefix) {
		if strings.HasPrefix(parent, whMeta) || strings.Contains(parent, "/"+whMeta) {
			return "a note of the aufs storage driver", nil
		}
		return "", nil
	}
	switch {
	case base == whOpaque:
		r.path, r.kind = parent, opaque
	case strings.HasPrefix(base, whMeta):
		return "a note of the aufs storage driver", nil
	default:
		name := strings.TrimPrefix(base, whPrefix)
		if name == "" || name == "." || name == ".." {
			return "", fmt.Errorf("%w: a whiteout of %q", ErrHostile, name)
		}
		r.path, r.kind = join(parent, name), whiteout
	}
	return "", nil
}

func newInode(h *tar.Header) (*inode, error) {
	kind, ok := fileTypes[h.Typeflag]
	if !ok {
		return nil, fmt.Errorf("%w: tar entry type %q is unknown", ErrUnsupported, h.Typeflag)
	}
	for _, id := range []int{h.Uid, h.Gid} {
		if id < 0 || int64(id) >= math.MaxUint32 {
			return nil, fmt.Errorf("%w: owner %d:%d is no user or group id", ErrHostile, h.Uid, h.Gid)
		}
	}
	i := &inode{
		mode: kind | uint32(h.Mode&permissions), uid: uint32(h.Uid), gid: uint32(h.Gid), //nolint:gosec // both checked
		mtime: h.ModTime.Unix(), nsec: uint32(h.ModTime.Nanosecond()), //nolint:gosec // 0 to 999999999
	}
	switch kind {
	case catalog.ModeRegular:
		i.size = h.Size
	case catalog.ModeSymlink:
		if len(h.Linkname) == 0 || len(h.Linkname) > maxTarget || strings.IndexByte(h.Linkname, 0) >= 0 {
			return nil, fmt.Errorf("%w: a symbolic link's target of %d bytes (1 to %d, none zero)", ErrHostile, len(h.Linkname), maxTarget)
		}
		i.mode, i.target = kind|0o777, h.Linkname
	case catalog.ModeChar, catalog.ModeBlock:
		// Linux has 12 bits of major and 20 of minor.
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return nil, fmt.Errorf("%w: device number %d:%d", ErrHostile, h.Devmajor, h.Devminor)
		}
		i.major, i.minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	return i, i.takeXAttrs(h.PAXRecords)
}

func (i *inode) takeXAttrs(records map[string]string) error {
	for key, value := range records {
		name, found := strings.CutPrefix(key, xattrPrefix)
		if !found {
			continue
		}
		if name == "" || len(name) > maxXAttrName || strings.IndexByte(name, 0) >= 0 {
			return fmt.Errorf("%w: an extended attribute's name of %d bytes (1 to %d)", ErrHostile, len(name), maxXAttrName)
		}
		if len(value) > maxXAttrValue {
			return fmt.Errorf("%w: extended attribute %q of %d bytes, more than %d", ErrHostile, name, len(value), maxXAttrValue)
		}
		i.xattrs = append(i.xattrs, imagemeta.XAttr{Name: name, Value: []byte(value)})
	}
	slices.SortFunc(i.xattrs, func(a, b imagemeta.XAttr) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
