package codec

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/rootstock-cf/rootstock/object"
)

// small is the plain size up to which an object is decoded in memory, in bytes:
// read whole, hashed before anything looks into it, decoded in one call and
// written in one call. Most files of a root file system are a few kilobytes,
// where a stream costs more than its content.
const small = 1 << 20

// storedBound is more than any sane encoding of n plain bytes takes.
func storedBound(n int64) int64 { return n + n/4 + 64<<10 }

// buffers are kept between calls.
type buffers struct {
	stored bytes.Buffer
	plain  []byte
}

var smalls = sync.Pool{New: func() any { return new(buffers) }}

func decodeSmall(dst io.Writer, src io.Reader, want Expect) (int64, error) {
	b := smalls.Get().(*buffers)
	defer smalls.Put(b)
	b.stored.Reset()
	limit := storedBound(want.Size)
	if n, err := b.stored.ReadFrom(io.LimitReader(src, limit+1)); err != nil {
		return 0, err
	} else if n > limit {
		return 0, fmt.Errorf("%w: more stored bytes than its size allows", ErrCorrupt)
	}
	stored := b.stored.Bytes()
	if got := want.Hash.Algorithm.Sum(stored); got != want.Hash {
		return 0, fmt.Errorf("%w: hashes to %s, not %s", ErrCorrupt, got, want.Hash)
	}
	plain, err := b.decode(stored, want)
	if err != nil {
		return 0, err
	}
	n, err := dst.Write(plain)
	return int64(n), err
}

func (b *buffers) decode(stored []byte, want Expect) ([]byte, error) {
	switch want.Compression {
	case object.None:
		if int64(len(stored)) != want.Size {
			return nil, fmt.Errorf("%w: %d bytes, not %d", ErrSize, len(stored), want.Size)
		}
		return stored, nil
	case object.Zstd:
		return b.unzstd(stored, want.Size)
	}
	out := bytes.NewBuffer(b.plain[:0])
	_, err := decode(out, bufio.NewReader(bytes.NewReader(stored)), want)
	b.plain = out.Bytes()[:0]
	return out.Bytes(), err
}

// wholes are decoders for frames in memory. They share nothing with those for
// streams, which hold a stream's window.
var wholes sync.Pool

func (b *buffers) unzstd(stored []byte, size int64) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(stored); err != nil {
		return nil, corrupt(object.Zstd, err)
	}
	// The decoder believes what a frame says of its size.
	if h.HasFCS && h.FrameContentSize != uint64(size) {
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrSize, h.FrameContentSize, size)
	}
	if !oneFrame(stored) {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, errFrame)
	}
	d, pooled := wholes.Get().(*zstd.Decoder)
	if !pooled {
		var err error
		d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(small),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("start zstd decoder: %w", err)
		}
	}
	defer wholes.Put(d)
	plain, err := d.DecodeAll(stored, b.plain[:0])
	b.plain = plain[:0]
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return nil, fmt.Errorf("%w: more than %d bytes", ErrSize, size)
	case err != nil:
		return nil, corrupt(object.Zstd, err)
	case int64(len(plain)) != size:
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrSize, len(plain), size)
	}
	return plain, nil
}

// oneFrame reports whether b is exactly one zstd frame, by its lengths.
func oneFrame(b []byte) bool {
	if len(b) < 5 || binary.LittleEndian.Uint32(b) != frameMagic {
		return false
	}
	head, tail := frameHeader(b[4])
	for at := head; ; {
		if at+blockHeader > len(b) {
			return false
		}
		size, last, ok := block(b[at:])
		if !ok {
			return false
		}
		at += blockHeader + size
		if last {
			return at+tail == len(b)
		}
	}
}
