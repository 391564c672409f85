package codec

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// frameReader hands on exactly one zstd frame (RFC 8878 section 3.1.1) and
// then ends, so that the decoder behind it can neither go on to a second or a
// skippable frame nor swallow bytes that follow. It looks only at lengths.
type frameReader struct {
	in   *bufio.Reader
	left int  // bytes of the current part not yet handed on
	tail int  // checksum bytes behind the last block
	last bool // the current block is the last one
	head bool // the frame header has been measured
	done bool // the whole frame has been handed on
}

const (
	frameMagic  = 0xFD2FB528
	blockHeader = 3 // bytes
	blockRLE    = 1
	blockBad    = 3
)

var errFrame = errors.New("not one well-formed zstd frame")

func (f *frameReader) Read(p []byte) (int, error) {
	if f.left == 0 && !f.done {
		if err := f.next(); errors.Is(err, io.EOF) {
			return 0, io.ErrUnexpectedEOF
		} else if err != nil {
			return 0, err
		}
	}
	if f.done {
		return 0, io.EOF
	}
	n, err := f.in.Read(p[:min(len(p), f.left)])
	f.left -= n
	if f.left == 0 && f.last && f.tail == 0 {
		f.done = true
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next measures the part that follows: header, a block, or the checksum.
func (f *frameReader) next() error {
	switch {
	case !f.head:
		return f.header()
	case f.last:
		f.left, f.tail = f.tail, 0
		return nil
	}
	b, err := f.in.Peek(blockHeader)
	if err != nil {
		return fmt.Errorf("block header: %w", err)
	}
	size, last, ok := block(b)
	if !ok {
		return errFrame
	}
	f.last = last
	f.left = blockHeader + size
	return nil
}

func (f *frameReader) header() error {
	b, err := f.in.Peek(5)
	if err != nil {
		return fmt.Errorf("frame header: %w", err)
	}
	if binary.LittleEndian.Uint32(b) != frameMagic {
		return errFrame
	}
	n, tail := frameHeader(b[4])
	f.tail = tail
	f.head, f.left = true, n
	return nil
}

// frameHeader says how long a frame's header is, magic included, and how much
// follows its last block, by its descriptor.
func frameHeader(desc byte) (head, tail int) {
	single := desc&0x20 != 0
	head = 5 + []int{0, 1, 2, 4}[desc&3] + []int{0, 2, 4, 8}[desc>>6]
	if single && desc>>6 == 0 {
		head++ // content size of one byte
	}
	if !single {
		head++ // window descriptor
	}
	if desc&4 != 0 {
		tail = 4
	}
	return head, tail
}

// block reads a block's header, which b begins with: how many bytes follow it
// and whether it is the last.
func block(b []byte) (size int, last, ok bool) {
	h := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	size = h >> 3
	switch h >> 1 & 3 {
	case blockRLE:
		size = 1
	case blockBad:
		return 0, false, false
	}
	return size, h&1 != 0, true
}
