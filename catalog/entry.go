// Package catalog is the directory tree of a repository as CernVM-FS stores
// it: SQLite databases of schema 2.5 revision 7, each describing one sub tree
// down to the mountpoints of further nested catalogs (CVMFS-FORMAT 2).
//
// Three forms of the same rows live here. [Entry] is one row, decoded.
// A [Reader] and a [Writer] go between rows and database. An [Index] is what a
// cell works with: the whole catalog compiled once into a flat file that is
// memory-mapped and never queried with SQL.
//
// The package imports only package object of this module and does no network
// I/O.
package catalog

import (
	"errors"

	"github.com/rootstock-cf/rootstock/object"
)

// ErrInvalid reports a database that is not a catalog this package can read,
// or rows that contradict each other.
var ErrInvalid = errors.New("invalid catalog")

// File type bits of [Entry.Mode], as in stat(2).
const (
	ModeType    = 0o170000
	ModeSocket  = 0o140000
	ModeSymlink = 0o120000
	ModeRegular = 0o100000
	ModeBlock   = 0o060000
	ModeDir     = 0o040000
	ModeChar    = 0o020000
	ModeFIFO    = 0o010000
)

// Flags are what a row's flags column says beyond the file type, the hash
// algorithm and the compression, which [Entry] holds decoded (CVMFS-FORMAT
// 2.4).
type Flags uint32

// The flags, with the bits they have in the column.
const (
	NestedMountpoint Flags = 2       // the row in the parent catalog
	NestedRoot       Flags = 32      // the row in the nested catalog
	Chunked          Flags = 64      // content is in Entry.Chunks
	External         Flags = 128     // content is not in the repository
	BindMountpoint   Flags = 0x4000  // another root catalog is attached here
	Hidden           Flags = 0x8000  // left out of listings
	DirectIO         Flags = 0x10000 // to be read past the page cache
)

// NoNanoseconds is the value of [Entry.MTimeNS] where a row states none.
const NoNanoseconds = -1

// Entry is one row of a catalog. Its path is not part of it: rows carry only
// the MD5 keys of their path and their parent's, so whoever holds an Entry
// got the path along with it.
type Entry struct {
	Name    string // last path component; empty for the repository's root
	Mode    uint32 // complete st_mode, type bits included
	UID     uint32
	GID     uint32
	Size    int64 // bytes; for a device its number as st_rdev has it
	MTime   int64 // UNIX seconds
	MTimeNS int32 // 0 to 999999999, or NoNanoseconds
	Flags   Flags

	// Links is the link count, for a directory 2 plus its sub directories.
	// Group numbers a hard link group within the catalog, 0 for none; only
	// names of one directory form a group.
	Links uint32
	Group uint32

	// Hash names a regular file's object; null for everything else and for
	// a chunked file without bulk hash. Its algorithm is then still needed
	// for the chunks' names and stands in Algorithm.
	Hash        object.Hash
	Algorithm   object.Algorithm
	Compression object.Compression
	Chunks      []Chunk // by offset, tiling the file, if Flags has Chunked

	Symlink string  // target, raw, with its $(VAR)s
	XAttrs  []XAttr // sorted by name
}

// IsDir reports whether e is a directory.
func (e *Entry) IsDir() bool { return e.Mode&ModeType == ModeDir }

// IsRegular reports whether e is a regular file.
func (e *Entry) IsRegular() bool { return e.Mode&ModeType == ModeRegular }

// IsSymlink reports whether e is a symbolic link.
func (e *Entry) IsSymlink() bool { return e.Mode&ModeType == ModeSymlink }

// Chunk is a piece of a chunked file, stored as an object of type
// [object.Partial].
type Chunk struct {
	Offset int64 // bytes into the plain file
	Size   int64 // plain bytes
	Hash   object.Hash
}

// XAttr is one extended attribute as a catalog can hold it: name and value are
// at most 255 bytes each.
type XAttr struct {
	Name  string
	Value []byte
}

// Nested is a row of nested_catalogs or bind_mountpoints: the catalog attached
// at Path.
type Nested struct {
	Path string      // absolute, without trailing slash
	Hash object.Hash // of the catalog object
	Size int64       // bytes of the database, uncompressed; 0 if unknown
}
