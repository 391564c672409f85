package imagemeta

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/rootstock-cf/rootstock/object"
)

// Object is a row of an objects table: a content and where it is stored.
type Object struct {
	ID object.ContentID
	Stored
}

// EncodeObjects writes the table of objects, which it sorts in place. It
// returns an error wrapping [ErrInvalid] for a content listed twice or one
// whose Stored is not what its own comment says.
func EncodeObjects(w io.Writer, objects []Object) error {
	slices.SortFunc(objects, func(a, b Object) int { return slices.Compare(a.ID[:], b.ID[:]) })
	chunks := 0
	for i := range objects {
		o := &objects[i]
		if i > 0 && objects[i-1].ID == o.ID {
			return fmt.Errorf("objects table: content %s: %w: listed twice", o.ID, ErrInvalid)
		}
		if err := o.check(); err != nil {
			return fmt.Errorf("objects table: content %s: %w", o.ID, err)
		}
		chunks += len(o.Chunks)
	}
	if len(objects) > math.MaxUint32 || chunks > math.MaxUint32 {
		return fmt.Errorf("objects table: %w: %d contents of %d chunks", ErrInvalid, len(objects), chunks)
	}
	bw := bufio.NewWriterSize(w, writeSize)
	b := append(bw.AvailableBuffer(), objectsMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(objects))) // #nosec G115 -- checked
	b = binary.LittleEndian.AppendUint32(b, uint32(chunks))       // #nosec G115
	bw.Write(b)                                                   //nolint:errcheck // Flush says it
	for i := range objects {
		bw.Write(objects[i].ID[:]) //nolint:errcheck
	}
	first := 0
	for i := range objects {
		bw.Write(objects[i].appendRecord(bw.AvailableBuffer(), first)) //nolint:errcheck
		first += len(objects[i].Chunks)
	}
	for i := range objects {
		for _, c := range objects[i].Chunks {
			b := binary.LittleEndian.AppendUint64(bw.AvailableBuffer(), uint64(c.Size)) // #nosec G115 -- checked
			bw.Write(append(b, c.Hash.Digest[:]...))                                    //nolint:errcheck
		}
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("write objects table: %w", err)
	}
	return nil
}

// algorithm is that of the object's hash or of its chunks'.
func (s *Stored) algorithm() object.Algorithm {
	if len(s.Chunks) > 0 {
		return s.Chunks[0].Hash.Algorithm
	}
	return s.Hash.Algorithm
}

func (o *Object) check() error {
	if o.Size < 0 || (o.Size == 0) != (o.ID == object.EmptyContent) {
		return fmt.Errorf("%w: size of %d bytes", ErrInvalid, o.Size)
	}
	if !o.Compression.Valid() || !o.algorithm().Valid() {
		return fmt.Errorf("%w: %s, %s", ErrInvalid, o.Compression, o.algorithm())
	}
	if len(o.Chunks) == 0 {
		return nil
	}
	if !o.Hash.IsZero() {
		return fmt.Errorf("%w: both whole and in chunks", ErrInvalid)
	}
	left := o.Size
	for _, c := range o.Chunks {
		if c.Hash.Algorithm != o.algorithm() {
			return fmt.Errorf("%w: chunks named by %s and %s", ErrInvalid, o.algorithm(), c.Hash.Algorithm)
		}
		if c.Size <= 0 || c.Size > left {
			return fmt.Errorf("%w: chunk of %d bytes where %d are left", ErrInvalid, c.Size, left)
		}
		left -= c.Size
	}
	if left != 0 {
		return fmt.Errorf("%w: chunks are %d bytes short", ErrInvalid, left)
	}
	return nil
}

func (o *Object) appendRecord(b []byte, first int) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(o.Size)) // #nosec G115 -- checked
	if len(o.Chunks) == 0 {
		b = append(b, byte(o.Compression), byte(o.algorithm()), recordWhole, 0)
		return append(b, o.Hash.Digest[:]...)
	}
	b = append(b, byte(o.Compression), byte(o.algorithm()), recordChunked, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(first))         // #nosec G115 -- checked
	b = binary.LittleEndian.AppendUint32(b, uint32(len(o.Chunks))) // #nosec G115
	return append(b, make([]byte, 12)...)
}
