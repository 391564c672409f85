package source

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// form is how a stream is compressed, told by its first bytes and never by a
// name or a media type, which are often wrong.
type form int

const (
	plain form = iota
	gzipped
	zstandard
	xzipped
)

func (f form) String() string { return [...]string{"tar", "gzip", "zstd", "xz"}[f] }

const (
	blockSize = 512       // bytes of a tar header
	maxWindow = 128 << 20 // bytes; what the zstd tool itself accepts by default
	maxXZDict = 256 << 20 // bytes; xz -9 needs 64 MiB
	bufBytes  = 128 << 10
)

// sniff tells the form of a stream from its head of at most blockSize bytes.
func sniff(head []byte) (form, error) {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzipped, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstandard, nil
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return zstandard, nil // a skippable frame first, as pzstd writes it
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return xzipped, nil
	case len(head) == 0:
		return plain, fmt.Errorf("%w: it is empty", ErrFormat)
	case isTarBlock(head):
		return plain, nil
	case bytes.HasPrefix(head, []byte("PK")):
		return plain, fmt.Errorf("%w: it is a zip file, not a tar", ErrFormat)
	case bytes.HasPrefix(head, []byte("BZh")):
		return plain, fmt.Errorf("%w: bzip2; recompress it with gzip, zstd or xz", ErrUnsupported)
	}
	return plain, fmt.Errorf("%w: it is neither a tar nor compressed with gzip, zstd or xz", ErrFormat)
}

// isTarBlock accepts a header whose checksum holds, in the sum of either
// signedness, and the zero block an empty tar begins with.
func isTarBlock(b []byte) bool {
	if len(b) < blockSize {
		return false
	}
	b = b[:blockSize]
	var unsigned, signed, want int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c)) //nolint:gosec // some old tars sum signed bytes
	}
	if unsigned == 8*' ' && bytes.Count(b, []byte{0}) == blockSize {
		return true
	}
	for _, c := range bytes.Trim(b[148:156], " \x00") {
		if c < '0' || c > '7' {
			return false
		}
		want = want<<3 | int64(c-'0')
	}
	return want == unsigned || want == signed
}

// decompress begins to decode r. allowXZ is false for image layers, for which
// no media type exists. The caller closes the result, which leaves r open.
func decompress(r *bufio.Reader, allowXZ bool) (io.ReadCloser, form, error) {
	head, err := r.Peek(blockSize)
	if err != nil && len(head) == 0 && err != io.EOF { //nolint:errorlint // bufio passes errors on as they are
		return nil, plain, err
	}
	f, err := sniff(head)
	if err != nil {
		return nil, f, err
	}
	switch f {
	case gzipped:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, f, fmt.Errorf("%w gzip: %w", ErrFormat, err)
		}
		return z, f, nil
	case zstandard:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, f, fmt.Errorf("%w zstd: %w", ErrFormat, err)
		}
		return z.IOReadCloser(), f, nil
	case xzipped:
		if !allowXZ {
			return nil, f, fmt.Errorf("%w: image layers compressed with xz; the image format knows gzip and zstd", ErrUnsupported)
		}
		if err := checkXZDict(head); err != nil {
			return nil, f, err
		}
		z, err := xz.NewReader(r)
		if err != nil {
			return nil, f, fmt.Errorf("%w xz: %w", ErrFormat, err)
		}
		return io.NopCloser(z), f, nil
	}
	return io.NopCloser(r), f, nil
}

// checkXZDict bounds the dictionary that the first block asks for; the decoder
// allocates whatever it says. (.xz format 1.2: 12 bytes of stream header, then
// the block header with its list of filters.)
func checkXZDict(head []byte) error {
	const streamHeader = 12
	if len(head) <= streamHeader+2 || head[streamHeader] == 0 {
		return nil // too short, or no block: the decoder decides
	}
	end := min(len(head), streamHeader+4*(int(head[streamHeader])+1))
	b := head[streamHeader+1 : end]
	flags := b[0]
	b = b[1:]
	for _, present := range []bool{flags&0x40 != 0, flags&0x80 != 0} {
		for present && len(b) > 0 { // a variable-length number
			more := b[0]&0x80 != 0
			b = b[1:]
			if !more {
				break
			}
		}
	}
	const lzma2 = 0x21
	if len(b) < 3 || b[0] != lzma2 || b[1] != 1 {
		return nil // the decoder knows no other filter and refuses it itself
	}
	bits := uint(b[2] & 0x3f)
	if size := int64(2|bits&1) << (bits/2 + 11); bits >= 40 || size > maxXZDict {
		return fmt.Errorf("%w: its xz dictionary needs more than %d MiB of memory; recompress it with xz -9 or less",
			ErrTooLarge, maxXZDict>>20)
	}
	return nil
}
