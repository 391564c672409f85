package imagemeta

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"math/bits"

	"github.com/rootstock-cf/rootstock/object"
)

// The layout of an objects table (docs/design/tree.md). All integers are
// little endian and need no alignment.
const (
	objectsMagic = "RSOBJS\x00\x01" // the last byte is the version

	headerSize  = 16          // magic, number of contents, number of chunks
	contentSize = sha256.Size // an id
	recordSize  = 32
	chunkSize   = 8 + object.DigestSize

	recordWhole   = 0 // the digest of one bulk object
	recordChunked = 1 // the index of the first chunk, the number of chunks
)

// Objects is a table from content to stored objects, used where it lies: in
// a slice of memory or a mapped file. It is safe for concurrent use.
type Objects struct {
	ids     []byte // sorted
	records []byte // in the same order
	chunks  []byte // in the order of the records
}

// OpenObjects checks all of b, which holds a table and nothing else, and
// returns a view of it. b must not change, nor be unmapped, while the view is
// in use. It returns an error wrapping [ErrInvalid] for anything that
// [EncodeObjects] would not have written, and allocates the same few bytes
// whatever b holds.
func OpenObjects(b []byte) (*Objects, error) {
	o, err := openObjects(b)
	if err != nil {
		return nil, fmt.Errorf("objects table: %w", err)
	}
	return o, nil
}

func openObjects(b []byte) (*Objects, error) {
	if len(b) < headerSize || string(b[:8]) != objectsMagic {
		return nil, fmt.Errorf("%w: not a table of a version this program reads", ErrInvalid)
	}
	n, m := uint64(binary.LittleEndian.Uint32(b[8:])), uint64(binary.LittleEndian.Uint32(b[12:]))
	if size := headerSize + n*(recordSize+contentSize) + m*chunkSize; size != uint64(len(b)) {
		return nil, fmt.Errorf("%w: %d bytes where %d contents and %d chunks take %d", ErrInvalid, len(b), n, m, size)
	}
	b = b[headerSize:]
	o := &Objects{ids: b[:n*contentSize], records: b[n*contentSize : n*(contentSize+recordSize)], chunks: b[n*(contentSize+recordSize):]}
	var next uint64 // chunk
	for i := range int(n) {
		id := o.id(i)
		if i > 0 && bytes.Compare(o.id(i-1), id) >= 0 {
			return nil, fmt.Errorf("%w: content %x out of order", ErrInvalid, id)
		}
		chunks, err := o.check(i, next)
		if err != nil {
			return nil, fmt.Errorf("content %x: %w", id, err)
		}
		next += chunks
	}
	if next != m {
		return nil, fmt.Errorf("%w: %d chunks that belong to no content", ErrInvalid, m-next)
	}
	return o, nil
}

// check reports what is wrong with record i, whose chunks, if it has any, are
// due at index next, and how many chunks there are.
func (o *Objects) check(i int, next uint64) (chunks uint64, err error) {
	r := o.record(i)
	size := binary.LittleEndian.Uint64(r)
	if size > math.MaxInt64 || (size == 0) != (object.ContentID(o.id(i)) == object.EmptyContent) {
		return 0, fmt.Errorf("%w: size of %d bytes", ErrInvalid, size)
	}
	if !object.Compression(r[8]).Valid() || !object.Algorithm(r[9]).Valid() || r[11] != 0 {
		return 0, fmt.Errorf("%w: %s, %s", ErrInvalid, object.Compression(r[8]), object.Algorithm(r[9]))
	}
	switch r[10] {
	case recordWhole:
		return 0, nil
	case recordChunked:
	default:
		return 0, fmt.Errorf("%w: record of kind %d", ErrInvalid, r[10])
	}
	first, n := uint64(binary.LittleEndian.Uint32(r[12:])), uint64(binary.LittleEndian.Uint32(r[16:]))
	if first != next || n == 0 || [12]byte(r[20:]) != [12]byte{} || first+n > uint64(len(o.chunks)/chunkSize) {
		return 0, fmt.Errorf("%w: chunks %d to %d where %d follows", ErrInvalid, first, first+n, next)
	}
	for j := range n {
		piece := binary.LittleEndian.Uint64(o.chunks[(first+j)*chunkSize:])
		if piece == 0 || piece > size {
			return 0, fmt.Errorf("%w: chunk of %d bytes where %d are left", ErrInvalid, piece, size)
		}
		size -= piece
	}
	if size != 0 {
		return 0, fmt.Errorf("%w: chunks are %d bytes short", ErrInvalid, size)
	}
	return n, nil
}

// Len returns how many contents the table knows.
func (o *Objects) Len() int { return len(o.ids) / contentSize }

// At returns the i-th content in the order of the ids.
func (o *Objects) At(i int) object.ContentID { return object.ContentID(o.id(i)) }

// Index returns which one a content is in the order of the ids.
func (o *Objects) Index(id object.ContentID) (int, bool) {
	low, high := o.near(id)
	for low < high {
		mid := int(uint(low+high) >> 1) // #nosec G115 -- not negative
		if o.before(mid, id) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < o.Len() && object.ContentID(o.id(low)) == id
}

// near returns between which two the id's place is. Ids are digests, so it is
// near where it would be if they were spread evenly: one page of a mapped table
// is touched, not one for each step. Ids that are not spread so take more steps,
// no more than twice those of a search through all.
func (o *Objects) near(id object.ContentID) (low, high int) {
	n := o.Len()
	if n == 0 {
		return 0, 0
	}
	share, _ := bits.Mul64(binary.BigEndian.Uint64(id[:]), uint64(n))
	at, step := int(share), 16 // #nosec G115 -- less than n
	if o.before(at, id) {
		for low = at + 1; low+step < n; step *= 2 {
			if !o.before(low+step, id) {
				return low, low + step
			}
			low += step + 1
		}
		return low, n
	}
	for high = at; high-step > 0; step *= 2 {
		if o.before(high-step, id) {
			return high - step + 1, high
		}
		high -= step
	}
	return 0, high
}

// before reports whether the i-th id sorts before id.
func (o *Objects) before(i int, id object.ContentID) bool {
	at := o.id(i)
	// The first eight bytes nearly always decide.
	head, key := binary.BigEndian.Uint64(at), binary.BigEndian.Uint64(id[:])
	return head < key || head == key && bytes.Compare(at, id[:]) < 0
}

// Lookup returns where a content is stored. It allocates only the list of
// chunks of a chunked one.
func (o *Objects) Lookup(id object.ContentID) (Stored, bool) {
	i, ok := o.Index(id)
	if !ok {
		return Stored{}, false
	}
	return o.stored(i), true
}

// All yields every content in the order of the ids.
func (o *Objects) All() iter.Seq2[object.ContentID, Stored] {
	return func(yield func(object.ContentID, Stored) bool) {
		for i := range o.Len() {
			if !yield(object.ContentID(o.id(i)), o.stored(i)) {
				return
			}
		}
	}
}

func (o *Objects) id(i int) []byte     { return o.ids[i*contentSize:][:contentSize] }
func (o *Objects) record(i int) []byte { return o.records[i*recordSize:][:recordSize] }

func (o *Objects) stored(i int) Stored {
	r := o.record(i)
	s := Stored{
		Size:        int64(binary.LittleEndian.Uint64(r)), // #nosec G115 -- checked
		Compression: object.Compression(r[8]),
	}
	algorithm := object.Algorithm(r[9])
	if r[10] == recordWhole {
		s.Hash = object.Hash{Algorithm: algorithm, Digest: [object.DigestSize]byte(r[12:])}
		return s
	}
	first, n := int(binary.LittleEndian.Uint32(r[12:])), int(binary.LittleEndian.Uint32(r[16:]))
	s.Chunks = make([]Chunk, n)
	for j := range s.Chunks {
		c := o.chunks[(first+j)*chunkSize:][:chunkSize]
		s.Chunks[j] = Chunk{
			Size: int64(binary.LittleEndian.Uint64(c)), // #nosec G115 -- checked
			Hash: object.Hash{Algorithm: algorithm, Digest: [object.DigestSize]byte(c[8:])},
		}
	}
	return s
}
