// Package imagemeta is what a tree is, apart from its bytes: the canonical
// listing whose SHA-256 is the tree's id, and the table that says which stored
// objects hold its contents.
//
// The listing says everything an image means (hard links across directories,
// every xattr, nanosecond times, devices, any name), where a CernVM-FS catalog
// cannot. It is written by the publisher, travels inside the repository as a
// file, and is read by cells through a strict, bounded parser: what it accepts
// re-encodes to the same bytes. See docs/design/tree.md for the encoding.
package imagemeta

import (
	"errors"

	"github.com/rootstock-cf/rootstock/object"
)

// ErrInvalid reports a listing or a table that this package would not have
// written.
var ErrInvalid = errors.New("invalid tree metadata")

// Entry is one name in a tree. Entries of a tree come in canonical order: the
// root first, each directory before what it holds, names of a directory
// sorted bytewise, depth first.
type Entry struct {
	// Path is relative to the tree's root, without leading or trailing
	// slash; the root is the empty string. It is bytes, not UTF-8.
	Path  string
	Mode  uint32 // complete st_mode, type bits included (catalog.ModeType …)
	UID   uint32
	GID   uint32
	MTime int64  // UNIX seconds
	Nsec  uint32 // 0 to 999999999

	Size    int64            // bytes of a regular file, else 0
	Content object.ContentID // of a regular file, else zero
	Target  string           // of a symbolic link
	Major   uint32           // of a device
	Minor   uint32

	XAttrs []XAttr // sorted by name, names unique

	// Link numbers a hard link group from 1 in order of first appearance,
	// 0 for a name that stands alone. All members agree in every other
	// field but Path; directories are never members.
	Link uint32
}

// XAttr is one extended attribute. Names are at most 255 bytes, values at most
// 65,535, as Linux has it.
type XAttr struct {
	Name  string
	Value []byte
}

// TreeID is the SHA-256 of a tree's encoded listing.
type TreeID = object.ContentID

// Stored says which objects hold a content.
type Stored struct {
	Size        int64 // plain bytes
	Compression object.Compression
	// Hash names the one object of type object.Bulk, or is null where Chunks
	// lists several of type object.Partial.
	Hash   object.Hash
	Chunks []Chunk
}

// Chunk is a piece of a content. Chunks tile: the first begins at 0 and each
// where its predecessor ends.
type Chunk struct {
	Size int64 // plain bytes
	Hash object.Hash
}
