package catalog

import (
	"bytes"
	"iter"
	"strings"

	"github.com/rootstock-cf/rootstock/object"
)

// Stat is what a row says in numbers.
type Stat struct {
	Mode, UID, GID uint32
	Size           int64 // bytes; for a device its number
	MTime          int64 // UNIX seconds
	MTimeNS        int32 // 0 to 999999999, or NoNanoseconds
	Links          uint32
	Flags          Flags
	Compression    object.Compression
	HashAlgorithm  object.Algorithm
	Group          uint32

	// First and Children are the range of rows of what a directory holds.
	First, Children uint32
	// FirstLink is the first row of the hard link group, which gives all
	// members their inode number; the row itself if it stands alone. A
	// member that is not the same file as the first (another directory,
	// content or mode) stands alone.
	FirstLink uint32
}

// Len returns the number of rows; row numbers are below it.
func (x *Index) Len() int { return int(x.rows) }

// RootPrefix returns the path of row 0, empty for the repository's root.
func (x *Index) RootPrefix() string { return string(x.slice(x.prefix, x.prefixLen)) }

// Revision returns the catalog's revision.
func (x *Index) Revision() uint64 { return x.revision }

// Counters returns the catalog's statistics.
func (x *Index) Counters() (self, subtree Counters) { return x.self, x.subtree }

// AnyXAttrs reports whether any row has xattrs.
func (x *Index) AnyXAttrs() bool { return x.anyXAttrs }

// record returns the bytes of a row, or those of a row of zeros.
func (x *Index) record(row uint32) *[recordSize]byte {
	if row >= x.rows {
		return &noRecord
	}
	return (*[recordSize]byte)(x.recs[int(row)*recordSize:])
}

var noRecord [recordSize]byte

// slice returns a piece of the blob.
func (x *Index) slice(off, n uint32) []byte {
	end := uint64(off) + uint64(n)
	if end > uint64(len(x.text)) {
		return nil
	}
	return x.text[off:end:end]
}

// Stat returns the numbers of a row.
func (x *Index) Stat(row uint32) Stat {
	r := x.record(row)
	s := Stat{
		Mode: le.Uint32(r[recMode:]), UID: le.Uint32(r[recUID:]), GID: le.Uint32(r[recGID:]),
		Size:          int64(le.Uint64(r[recSize:])),    // #nosec G115 -- as written
		MTime:         int64(le.Uint64(r[recMTime:])),   // #nosec G115
		MTimeNS:       int32(le.Uint32(r[recMTimeNS:])), // #nosec G115
		Links:         le.Uint32(r[recLinks:]),
		Flags:         Flags(le.Uint32(r[recFlags:])),
		Compression:   object.Compression(r[recComp]),
		HashAlgorithm: object.Algorithm(r[recAlg]),
		Group:         le.Uint32(r[recGroup:]),
		FirstLink:     le.Uint32(r[recLink:]),
	}
	s.First, s.Children = x.children(row, r)
	if s.FirstLink > row {
		s.FirstLink = row
	}
	return s
}

// children returns the range of rows below row, empty if it is not one that
// lies behind it.
func (x *Index) children(row uint32, r *[recordSize]byte) (first, n uint32) {
	first, n = le.Uint32(r[recFirst:]), le.Uint32(r[recCount:])
	if first <= row || uint64(first)+uint64(n) > uint64(x.rows) {
		return 0, 0
	}
	return first, n
}

// Name returns the last component of a row's path, empty for the repository's
// root.
func (x *Index) Name(row uint32) []byte {
	r := x.record(row)
	return x.slice(le.Uint32(r[recName:]), uint32(r[recNameLen]))
}

// Parent returns the row of the directory holding row; row 0 is its own.
func (x *Index) Parent(row uint32) uint32 {
	p := le.Uint32(x.record(row)[recParent:])
	if p >= row {
		return 0
	}
	return p
}

// Path returns the full path of a row, as its catalog has it.
func (x *Index) Path(row uint32) string {
	var names [][]byte
	for ; row != 0 && row < x.rows; row = x.Parent(row) {
		names = append(names, x.Name(row))
	}
	b := []byte(x.RootPrefix())
	for i := len(names) - 1; i >= 0; i-- {
		b = append(append(b, '/'), names[i]...)
	}
	return string(b)
}

// Child finds a name in a directory.
func (x *Index) Child(row uint32, name []byte) (uint32, bool) {
	first, n := x.children(row, x.record(row))
	for n > 0 {
		half := n / 2
		switch c := bytes.Compare(x.Name(first+half), name); {
		case c == 0:
			return first + half, true
		case c < 0:
			first, n = first+half+1, n-half-1
		default:
			n = half
		}
	}
	return 0, false
}

// Find walks from row 0 along path, which is relative to RootPrefix. A leading
// slash does not matter; the empty path is row 0.
func (x *Index) Find(path string) (uint32, bool) {
	row := uint32(0)
	path = strings.TrimPrefix(path, "/")
	var buf [maxName]byte
	for path != "" {
		name, rest, more := strings.Cut(path, "/")
		if len(name) > maxName || more && rest == "" {
			return 0, false
		}
		child, ok := x.Child(row, buf[:copy(buf[:], name)])
		if !ok {
			return 0, false
		}
		row, path = child, rest
	}
	return row, x.rows > 0
}

// Symlink returns the target of a symbolic link as it is stored, with its
// $(VAR)s; nil for anything else.
func (x *Index) Symlink(row uint32) []byte {
	r := x.record(row)
	if le.Uint32(r[recMode:])&ModeType != ModeSymlink {
		return nil
	}
	return x.slice(le.Uint32(r[recAux:]), le.Uint32(r[recAuxLen:]))
}

// HasXAttrs reports whether a row has xattrs.
func (x *Index) HasXAttrs(row uint32) bool { return le.Uint32(x.record(row)[recXAttrN:]) != 0 }

// XAttrs returns a row's attributes, sorted by name.
func (x *Index) XAttrs(row uint32) ([]XAttr, error) {
	r := x.record(row)
	return DecodeXAttrs(x.slice(le.Uint32(r[recXAttr:]), le.Uint32(r[recXAttrN:])))
}

// Hash names the object of a regular file; it is null for anything else and
// for a chunked file without bulk hash.
func (x *Index) Hash(row uint32) object.Hash {
	r := x.record(row)
	if r[recHashed] == 0 {
		return object.Hash{}
	}
	return hashOf(r[recAlg], r[recDigest:])
}

// hashOf keeps an algorithm that is none from reaching code that trusts it.
func hashOf(algorithm byte, digest []byte) object.Hash {
	a := object.Algorithm(algorithm)
	if !a.Valid() {
		return object.Hash{}
	}
	return object.Hash{Algorithm: a, Digest: [object.DigestSize]byte(digest)}
}

// Chunks returns the chunks of a chunked file, nil for anything else.
func (x *Index) Chunks(row uint32) []Chunk {
	r := x.record(row)
	if Flags(le.Uint32(r[recFlags:]))&Chunked == 0 {
		return nil
	}
	first, n := le.Uint32(r[recAux:]), le.Uint32(r[recAuxLen:])
	if uint64(first)+uint64(n) > uint64(x.chunks) {
		return nil
	}
	chunks := make([]Chunk, n)
	for i := range chunks {
		c := x.chunkTab[(int(first)+i)*chunkSize:]
		chunks[i] = Chunk{
			Offset: int64(le.Uint64(c)),     // #nosec G115 -- as written
			Size:   int64(le.Uint64(c[8:])), // #nosec G115
			Hash:   hashOf(r[recAlg], c[16:]),
		}
	}
	return chunks
}

// NestedAt returns the catalog attached at row: a nested catalog's where the
// row's flags have NestedMountpoint, a foreign one's where BindMountpoint.
func (x *Index) NestedAt(row uint32) (Nested, bool) {
	r := x.record(row)
	i := le.Uint32(r[recAux:])
	if le.Uint32(r[recMode:])&ModeType != ModeDir || i == 0 || uint64(i) > uint64(x.nested)+uint64(x.binds) {
		return Nested{}, false
	}
	return x.nestedEntry(i - 1), true
}

// Nested yields the nested catalogs with their mountpoints' rows.
func (x *Index) Nested() iter.Seq2[uint32, Nested] { return x.attachments(0, x.nested) }

// Binds yields the bind mountpoints, likewise.
func (x *Index) Binds() iter.Seq2[uint32, Nested] { return x.attachments(x.nested, x.binds) }

func (x *Index) attachments(from, n uint32) iter.Seq2[uint32, Nested] {
	return func(yield func(uint32, Nested) bool) {
		for i := range n {
			row := le.Uint32(x.nestedTab[int(from+i)*nestedSize:])
			if row < x.rows && !yield(row, x.nestedEntry(from+i)) {
				return
			}
		}
	}
}

func (x *Index) nestedEntry(i uint32) Nested {
	e := x.nestedTab[int(i)*nestedSize:][:nestedSize]
	return Nested{
		Path: string(x.slice(le.Uint32(e[4:]), le.Uint32(e[8:]))),
		Size: int64(le.Uint64(e[16:])), // #nosec G115 -- as written
		Hash: hashOf(e[12], e[24:]),
	}
}
