package imagemeta

import (
	"cmp"

	"github.com/rootstock-cf/rootstock/object"
)

// The encoding of a listing (docs/design/tree.md). All integers are unsigned
// varints of minimal length.
const (
	listingMagic = "RSTREE\x00\x01" // the last byte is the version

	// The first byte of a record: the file type in the low three bits, 0 for
	// the end of the listing, and what is left out or added.
	kindMask   = 0x07
	hasXAttrs  = 0x08 // extended attributes follow
	sameOwner  = 0x10 // uid and gid are the previous record's
	sameTime   = 0x20 // mtime and nanoseconds are the previous record's
	samePerm   = 0x40 // permissions are those of the last record of this type
	linkMember = 0x80 // a member of a hard link group

	kindEnd     = 0
	kindFIFO    = 1
	kindChar    = 2
	kindDir     = 3
	kindBlock   = 4
	kindRegular = 5
	kindSymlink = 6
	kindSocket  = 7
)

// File type and permission bits of [Entry.Mode], as in stat(2). They are
// catalog.ModeType and its like; this package does not need that one.
const (
	modeType    = 0o170000
	modeSocket  = 0o140000
	modeSymlink = 0o120000
	modeRegular = 0o100000
	modeBlock   = 0o060000
	modeDir     = 0o040000
	modeChar    = 0o020000
	modeFIFO    = 0o010000
	modePerm    = 0o7777
)

// What an entry can be at all, in bytes. A listing that says more is invalid.
const (
	MaxName       = 255
	MaxPath       = 4095
	MaxTarget     = 4095
	MaxXAttrName  = 255
	MaxXAttrValue = 65535
)

// The largest device numbers Linux knows.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// modes gives the type bits of each kind. kinds is its inverse, indexed by
// the type bits shifted down; 0 for none.
var (
	modes = [8]uint32{
		kindFIFO: modeFIFO, kindChar: modeChar, kindDir: modeDir, kindBlock: modeBlock,
		kindRegular: modeRegular, kindSymlink: modeSymlink, kindSocket: modeSocket,
	}
	kinds = [16]byte{
		modeFIFO >> 12: kindFIFO, modeChar >> 12: kindChar, modeDir >> 12: kindDir, modeBlock >> 12: kindBlock,
		modeRegular >> 12: kindRegular, modeSymlink >> 12: kindSymlink, modeSocket >> 12: kindSocket,
	}
)

// previous is what both sides remember of the records before, so that the
// next one can leave it out. Followers of a hard link group do not change it.
type previous struct {
	uid, gid uint32
	mtime    int64
	nsec     uint32
	perm     [8]uint32 // by kind
}

func (p *previous) remember(e *Entry, kind byte) {
	p.uid, p.gid, p.mtime, p.nsec = e.UID, e.GID, e.MTime, e.Nsec
	p.perm[kind] = e.Mode & modePerm
}

// zigzag folds the sign into the lowest bit, so that small steps back are
// short, too.
func zigzag(v int64) uint64     { return uint64(v)<<1 ^ uint64(v>>63) }     // #nosec G115 -- wraps on purpose
func unzigzag(u uint64) int64   { return int64(u>>1) ^ -int64(u&1) }        // #nosec G115
func step(from, to int64) int64 { return int64(uint64(to) - uint64(from)) } // #nosec G115

// IsDir reports whether e is a directory.
func (e *Entry) IsDir() bool { return e.Mode&modeType == modeDir }

// IsRegular reports whether e is a regular file.
func (e *Entry) IsRegular() bool { return e.Mode&modeType == modeRegular }

// IsSymlink reports whether e is a symbolic link.
func (e *Entry) IsSymlink() bool { return e.Mode&modeType == modeSymlink }

// IsDevice reports whether e is a block or character device.
func (e *Entry) IsDevice() bool {
	return e.Mode&modeType == modeBlock || e.Mode&modeType == modeChar
}

// Name returns the last component of e's path, empty for the root. It shares
// the path's memory.
func (e *Entry) Name() string { return e.Path[parentLen(e.Path, 1):] }

// Parent returns the path of the directory that holds e, which is the root's
// own for the root. It shares the path's memory.
func (e *Entry) Parent() string { return e.Path[:parentLen(e.Path, 0)] }

// parentLen returns the length of path's parent, plus slash if there is one.
func parentLen(path string, slash int) int {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return i + slash
		}
	}
	return 0
}

// Compare orders paths canonically: each directory before what it holds, the
// names of a directory bytewise. It returns -1, 0 or 1.
func Compare(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		// A slash ends a name, so it sorts before every byte of a longer one.
		if a[i] == '/' || b[i] != '/' && a[i] < b[i] {
			return -1
		}
		return 1
	}
	return cmp.Compare(len(a), len(b))
}

// noContent is the content of whatever is no regular file.
var noContent object.ContentID
