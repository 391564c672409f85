// Package erofs writes a tree's listing as an EROFS image and mounts it.
//
// The image holds metadata only. A regular file is a hole of the right size
// whose overlayfs xattrs redirect to the content's place in the cell's cache,
// /<2 digits>/<62 digits> of its SHA-256, so that an overlay with the image as
// lower layer and the cache as data-only layer shows the tree. Empty files are
// just that.
//
// A cell writes the image itself, from a listing that has proved to be the
// tree; no image ever comes from outside, and this package reads none.
package erofs

import "encoding/binary"

var le = binary.LittleEndian

// Version changes whenever [Write] makes another image of the same entries:
// what keeps images keeps them under it.
const Version = 1

// The on-disk format (Linux, fs/erofs/erofs_fs.h), in bytes.
const (
	blockBits = 12
	blockSize = 1 << blockBits
	slotBits  = 5 // an inode's number is its place, in slots of 32
	slotSize  = 1 << slotBits

	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2

	featureChecksum = 1 // compatible
	featureMTime    = 2 // compatible
	featureChunks   = 4 // incompatible

	inodeSize   = 64 // the extended form
	direntSize  = 12
	xattrHeader = 12
	xattrEntry  = 4
	chunkIndex  = 4

	layoutPlain  = 0
	layoutInline = 2
	layoutChunks = 4

	hole = 0xffffffff // the index of a chunk that is not there
)

// Number of a name space and rest of the xattrs by which overlayfs finds a
// file's data.
const (
	trusted      = 4
	metacopyName = "overlay.metacopy"
	redirectName = "overlay.redirect"
	redirectSize = 1 + 2 + 1 + 62
	// what the two take in an inode, each rounded up to four bytes
	redirectXAttrs = xattrEntry + len(metacopyName) + (xattrEntry+len(redirectName)+redirectSize+3)&^3
)

// fileTypes are a directory entry's types by the type bits of a mode.
var fileTypes = [16]byte{0o10: 1, 0o04: 2, 0o02: 3, 0o06: 4, 0o01: 5, 0o14: 6, 0o12: 7}
