package catalog

import (
	"fmt"

	"github.com/rootstock-cf/rootstock/object"
)

// Bits of the flags column that Entry holds in Mode, Algorithm and
// Compression (CVMFS-FORMAT 2.4).
const (
	bitDir     = 1
	bitFile    = 4
	bitLink    = 8
	bitSpecial = 16

	hashShift        = 8
	compressionShift = 11
	idMask           = 7

	knownFlags  = NestedMountpoint | NestedRoot | Chunked | External | BindMountpoint | Hidden | DirectIO
	regularOnly = Chunked | External | DirectIO
	attached    = NestedMountpoint | NestedRoot | BindMountpoint
)

// EncodeFlags returns the flags column of e (CVMFS-FORMAT 2.4). Flags that
// contradict the mode or each other are [ErrInvalid].
func EncodeFlags(e *Entry) (uint32, error) {
	if err := checkFlags(e); err != nil {
		return 0, err
	}
	f := uint32(e.Flags)
	switch e.Mode & ModeType {
	case ModeDir:
		f |= bitDir
	case ModeRegular:
		f |= bitFile | uint32(e.Compression)<<compressionShift
	case ModeSymlink:
		f |= bitFile | bitLink
	default:
		f |= bitFile | bitSpecial
	}
	if e.Compression > idMask {
		return 0, fmt.Errorf("%w: %s has no place in the flags", ErrInvalid, e.Compression)
	}
	a := e.Algorithm
	if !e.Hash.IsZero() {
		a = e.Hash.Algorithm
	}
	if !e.Hash.IsZero() || e.Flags&Chunked != 0 {
		if !a.Valid() {
			return 0, fmt.Errorf("%w: content named by %s", ErrInvalid, a)
		}
		f |= uint32(a-1) << hashShift
	}
	return f, nil
}

// DecodeFlags sets Flags, Algorithm and Compression of e from its flags
// column; e.Mode must be set. An unknown hash algorithm, or flags that
// contradict the mode or each other, are [ErrInvalid]; unknown flags and
// compressions are kept out of the way: a compression that is not
// [object.Compression.Valid] makes only that file unreadable.
func DecodeFlags(column uint32, e *Entry) error {
	e.Flags = Flags(column) & knownFlags
	e.Algorithm, e.Compression = 0, 0
	id := column >> hashShift & idMask
	if id > uint32(object.SHAKE128-object.SHA1) {
		return fmt.Errorf("%w: hash algorithm %d", ErrInvalid, id+1)
	}
	// Before revision 5 special files had no bit of their own.
	isDir, isLink := e.IsDir(), e.IsSymlink()
	if column&bitDir != 0 != isDir || column&bitLink != 0 != isLink ||
		column&bitSpecial != 0 && (isDir || isLink || e.IsRegular()) {
		return fmt.Errorf("%w: flags %#x of mode %#o", ErrInvalid, column, e.Mode)
	}
	if e.IsRegular() {
		e.Algorithm = object.Algorithm(id + 1)                                  // #nosec G115 -- at most 3
		e.Compression = object.Compression(column >> compressionShift & idMask) // #nosec G115 -- at most 7
	}
	return checkFlags(e)
}

func checkFlags(e *Entry) error {
	ok := e.Flags&^knownFlags == 0 &&
		(e.IsRegular() || e.Flags&regularOnly == 0) &&
		(e.IsDir() || e.Flags&attached == 0)
	switch e.Flags & attached {
	case 0, NestedMountpoint, NestedRoot, BindMountpoint:
	default:
		ok = false
	}
	switch e.Mode & ModeType {
	case ModeSocket, ModeSymlink, ModeRegular, ModeBlock, ModeDir, ModeChar, ModeFIFO:
	default:
		ok = false
	}
	if e.Mode > 0xffff || !ok {
		return fmt.Errorf("%w: flags %#x of mode %#o", ErrInvalid, uint32(e.Flags), e.Mode)
	}
	return nil
}

// EncodeLinks returns the hardlinks column: the group above 32 bits of link
// count.
func EncodeLinks(links, group uint32) int64 {
	return int64(uint64(group)<<32 | uint64(links)) // #nosec G115 -- wraps on purpose
}

// DecodeLinks is the inverse of [EncodeLinks].
func DecodeLinks(column int64) (links, group uint32) {
	return uint32(column), uint32(uint64(column) >> 32) // #nosec G115 -- the two halves
}
