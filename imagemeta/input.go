package imagemeta

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ErrTooLarge reports a listing beyond the reader's limits.
var ErrTooLarge = errors.New("tree metadata beyond its limits")

// Limits bound what is read from outside.
type Limits struct {
	Entries int // names in a tree
	// Bytes bounds the listing and, apart from it, the paths and names it
	// stands for.
	Bytes int64
}

// DefaultLimits fit trees a hundred times the size of a large image.
var DefaultLimits = Limits{Entries: 4 << 20, Bytes: 1 << 30}

// input reads varints and runs of bytes, bounds them, and hashes all it read.
type input struct {
	r        io.Reader
	sum      hash.Hash
	buf      []byte
	pos, end int
	left     int64 // bytes that may still be read
}

// inputSize is the buffer's size in bytes; take can hand out no more at once.
const inputSize = 96 << 10

func newInput(r io.Reader, limit int64) input {
	return input{r: r, sum: sha256.New(), buf: make([]byte, inputSize), left: limit}
}

// fill makes sure that n unread bytes, at most inputSize, are in the buffer.
func (in *input) fill(n int) error {
	if in.end-in.pos >= n {
		return nil
	}
	in.end = copy(in.buf, in.buf[in.pos:in.end])
	in.pos = 0
	for idle := 0; in.end < n; {
		got, err := in.r.Read(in.buf[in.end:])
		if int64(got) > in.left {
			return fmt.Errorf("%w: listing goes on after its largest size", ErrTooLarge)
		}
		in.left -= int64(got)
		in.sum.Write(in.buf[in.end : in.end+got]) //nolint:errcheck // a hash.Hash never fails
		in.end += got
		if in.end >= n {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %w", ErrInvalid, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return fmt.Errorf("read listing: %w", err)
		}
		if got > 0 {
			idle = 0
		} else if idle++; idle == 100 {
			return fmt.Errorf("read listing: %w", io.ErrNoProgress)
		}
	}
	return nil
}

// take returns the next n bytes, valid until the next call.
func (in *input) take(n int) ([]byte, error) {
	if err := in.fill(n); err != nil {
		return nil, err
	}
	in.pos += n
	return in.buf[in.pos-n : in.pos], nil
}

func (in *input) byte() (byte, error) {
	if in.pos == in.end {
		if err := in.fill(1); err != nil {
			return 0, err
		}
	}
	in.pos++
	return in.buf[in.pos-1], nil
}

// uvarint reads an integer of at most limit in its one, shortest form.
func (in *input) uvarint(limit uint64) (uint64, error) {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		b, err := in.byte()
		if err != nil {
			return 0, err
		}
		if shift == 63 && b > 1 {
			return 0, fmt.Errorf("%w: number of more than 64 bits", ErrInvalid)
		}
		v |= uint64(b&0x7f) << shift
		if b&0x80 != 0 {
			continue
		}
		if b == 0 && shift > 0 {
			return 0, fmt.Errorf("%w: number not in its shortest form", ErrInvalid)
		}
		if v > limit {
			return 0, fmt.Errorf("%w: number %d where at most %d can stand", ErrInvalid, v, limit)
		}
		return v, nil
	}
}

// expectEOF reports data behind the end.
func (in *input) expectEOF() error {
	err := in.fill(1)
	switch {
	case err == nil:
		return fmt.Errorf("%w: data after the end", ErrInvalid)
	case errors.Is(err, io.ErrUnexpectedEOF) && errors.Is(err, ErrInvalid):
		return nil
	}
	return err
}
