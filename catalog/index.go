package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// An index file is, all numbers little endian:
//
//	header   headerSize bytes, see [header]
//	rows     recordSize each, breadth first: row 0 is the catalog's root, the
//	         children of a directory lie side by side, sorted by name
//	chunks   chunkSize each: offset, size, digest
//	nested   nestedSize each: row, offset and length of the path in blob,
//	         algorithm, digest, size; first nested catalogs, then binds
//	blob     names, link targets, xattr blobs, paths; back to back
//
// It is a cache of what a catalog says, made and read on one machine by one
// version of this module: a reader that does not know the version compiles
// again.
const (
	indexMagic   = "rootstockIDX"
	indexVersion = 1
	headerSize   = 512
	recordSize   = 104
	chunkSize    = 36
	nestedSize   = 48
)

// Offsets in a record.
const (
	recSize    = 0
	recMTime   = 8
	recMode    = 16
	recUID     = 20
	recGID     = 24
	recFlags   = 28
	recMTimeNS = 32
	recLinks   = 36
	recGroup   = 40
	recLink    = 44 // first row of the hard link group
	recParent  = 48
	recFirst   = 52 // first child
	recCount   = 56 // children
	recName    = 60 // offset in blob
	recAux     = 64 // link target's offset, first chunk, or nested entry plus 1
	recAuxLen  = 68 // link target's length or number of chunks
	recXAttr   = 72 // offset in blob
	recXAttrN  = 76 // length
	recDigest  = 80
	recNameLen = 100
	recAlg     = 101
	recComp    = 102
	recHashed  = 103 // 1 if there is a digest
)

var le = binary.LittleEndian

// header is the part of an index that is read once.
type header struct {
	rows, chunks, nested, binds uint32
	blob                        uint32 // bytes
	prefix, prefixLen           uint32 // in blob
	sum                         uint32 // CRC-32C of all behind the header
	anyXAttrs                   bool
	revision                    uint64
	self, subtree               Counters
}

// encode returns all numbers of the header in the order of its fields, and the
// checksum in the last four bytes.
func (h *header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, indexMagic...)
	b = le.AppendUint32(b, indexVersion)
	for _, n := range []uint32{h.rows, h.chunks, h.nested, h.binds, h.blob, h.prefix, h.prefixLen, h.sum, boolean(h.anyXAttrs)} {
		b = le.AppendUint32(b, n)
	}
	b = le.AppendUint64(b, h.revision)
	for _, c := range []*Counters{&h.self, &h.subtree} {
		for _, n := range c.fields() {
			b = le.AppendUint64(b, uint64(*n)) // #nosec G115 -- and back
		}
	}
	b = b[:headerSize]
	le.PutUint32(b[headerSize-4:], crc32.Checksum(b[:headerSize-4], castagnoli))
	return b
}

func (h *header) decode(b []byte) error {
	switch {
	case len(b) < headerSize || string(b[:len(indexMagic)]) != indexMagic:
		return errors.New("not an index")
	case le.Uint32(b[headerSize-4:]) != crc32.Checksum(b[:headerSize-4], castagnoli):
		return errors.New("header checksum does not match")
	}
	b = b[len(indexMagic):]
	if v := le.Uint32(b); v != indexVersion {
		return fmt.Errorf("version %d instead of %d", v, indexVersion)
	}
	b = b[4:]
	var xattrs uint32
	for _, p := range []*uint32{&h.rows, &h.chunks, &h.nested, &h.binds, &h.blob, &h.prefix, &h.prefixLen, &h.sum, &xattrs} {
		*p, b = le.Uint32(b), b[4:]
	}
	h.anyXAttrs = xattrs != 0
	h.revision, b = le.Uint64(b), b[8:]
	for _, c := range []*Counters{&h.self, &h.subtree} {
		for _, p := range c.fields() {
			*p, b = int64(le.Uint64(b)), b[8:] // #nosec G115 -- as written
		}
	}
	return nil
}

// size is what the file's length must be.
func (h *header) size() int64 {
	return headerSize + int64(h.rows)*recordSize + int64(h.chunks)*chunkSize +
		(int64(h.nested)+int64(h.binds))*nestedSize + int64(h.blob)
}

func boolean(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NoRow is no row of an index.
const NoRow = math.MaxUint32

// Index is a compiled catalog, mapped into memory. All methods but Close may
// be called concurrently and, where they return bytes, return pieces of the
// mapping: they must be neither changed nor used after Close.
//
// A row number that the index does not have, and contents that were altered
// behind its header's back, give zero values, never a panic, and never a loop:
// a row's parent is before it and its children are behind it. Truncating the
// file while it is mapped is the one thing it cannot survive.
type Index struct {
	header
	data                      []byte // the mapping
	recs, chunkTab, nestedTab []byte
	text                      []byte // blob
}

// OpenIndex maps the index at path, which [Compile] wrote. What is not an
// index of this version is [ErrInvalid]: compile it again.
func OpenIndex(path string) (*Index, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open catalog index: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read; the mapping outlives it
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open catalog index: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() < headerSize || st.Size() > math.MaxInt {
		return nil, fmt.Errorf("open catalog index %s: %w: %d bytes", path, ErrInvalid, st.Size())
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map catalog index %s: %w", path, err)
	}
	x := &Index{data: data}
	if err := x.attach(); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog index %s: %w: %w", path, ErrInvalid, err), x.Close())
	}
	return x, nil
}

// attach reads the header and finds the sections.
func (x *Index) attach() error {
	if err := x.decode(x.data); err != nil {
		return err
	}
	if x.size() != int64(len(x.data)) || x.rows == 0 || x.rows == NoRow ||
		uint64(x.nested)+uint64(x.binds) >= NoRow {
		return fmt.Errorf("%d bytes instead of %d", len(x.data), x.size())
	}
	rest := x.data[headerSize:]
	cut := func(n int64) []byte {
		part := rest[:n:n]
		rest = rest[n:]
		return part
	}
	x.recs = cut(int64(x.rows) * recordSize)
	x.chunkTab = cut(int64(x.chunks) * chunkSize)
	x.nestedTab = cut((int64(x.nested) + int64(x.binds)) * nestedSize)
	x.text = rest
	return nil
}

// Verify reads the whole index and returns [ErrInvalid] if it is not what was
// written. OpenIndex checks only the header: an index is not synced when it is
// written, so one that may have seen an unclean stop needs this once.
func (x *Index) Verify() error {
	if len(x.data) < headerSize || crc32.Checksum(x.data[headerSize:], castagnoli) != x.sum {
		return fmt.Errorf("%w: catalog index of %q: checksum does not match", ErrInvalid, x.RootPrefix())
	}
	return nil
}

// Close unmaps the file.
func (x *Index) Close() error {
	data := x.data
	*x = Index{}
	if data == nil {
		return nil
	}
	if err := unix.Munmap(data); err != nil {
		return fmt.Errorf("unmap catalog index: %w", err)
	}
	return nil
}
