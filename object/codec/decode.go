// Package codec turns plain bytes into stored objects and back.
//
// Encoding is one call over a buffer, since no piece of a file is larger than
// a chunk. Decoding is a stream that is strict in what hostile input could
// bend: exactly one complete zlib stream or zstd frame, nothing behind it, and
// never more output than the caller allows (CVMFS-FORMAT 10.3).
package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/rootstock-cf/rootstock/object"
)

var (
	// ErrCorrupt reports stored bytes that do not decode, do not end where
	// their stream ends, or do not match the hash that names them.
	ErrCorrupt = errors.New("corrupt object")
	// ErrSize reports an object whose plain bytes are more or fewer than
	// its catalog says, or more than a bound.
	ErrSize = errors.New("object has the wrong size")
)

// maxWindow bounds the memory a zstd frame may ask its decoder for, in bytes.
const maxWindow = 32 << 20

// Expect says what an object must turn out to be.
type Expect struct {
	Hash        object.Hash // of the stored bytes
	Compression object.Compression
	// Size is the exact number of plain bytes, or -1 where nothing states it.
	Size int64
	// Limit bounds the plain bytes where Size is -1.
	Limit int64
}

func (e Expect) bound() int64 {
	if e.Size >= 0 {
		return e.Size
	}
	return e.Limit
}

// Decode reads the stored object src to its end, writes the plain bytes to
// dst and returns their number. Both the hash of what was read and the size of
// what was written are checked, so what dst got may be used only if the error
// is nil: [ErrCorrupt], [ErrSize], or what src or dst returned.
func Decode(dst io.Writer, src io.Reader, want Expect) (int64, error) {
	if want.Size >= 0 && want.Size <= small {
		return decodeSmall(dst, src, want)
	}
	sum := want.Hash.Algorithm.New()
	in := readers.Get().(*bufio.Reader)
	in.Reset(io.TeeReader(src, sum))
	defer func() {
		in.Reset(nil)
		readers.Put(in)
	}()
	n, err := decode(dst, in, want)
	if err != nil {
		return n, err
	}
	if got := object.FromSum(want.Hash.Algorithm, sum); got != want.Hash {
		return n, fmt.Errorf("%w: hashes to %s, not %s", ErrCorrupt, got, want.Hash)
	}
	return n, nil
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}

func decode(dst io.Writer, in *bufio.Reader, want Expect) (int64, error) {
	var n int64
	var err error
	switch want.Compression {
	case object.None:
		n, err = copyBounded(dst, in, want.bound())
	case object.Zlib:
		n, err = inflate(dst, in, want.bound())
	case object.Zstd:
		n, err = unzstd(dst, in, want.bound())
	default:
		return 0, fmt.Errorf("%w: unknown %s", ErrCorrupt, want.Compression)
	}
	if err != nil {
		return n, err
	}
	if want.Size >= 0 && n != want.Size {
		return n, fmt.Errorf("%w: %d bytes, not %d", ErrSize, n, want.Size)
	}
	if _, err := in.ReadByte(); err == nil {
		return n, fmt.Errorf("%w: bytes behind the end of its %s stream", ErrCorrupt, want.Compression)
	} else if !errors.Is(err, io.EOF) {
		return n, err
	}
	return n, nil
}

// pieces are what streams are written by: large ones, since a file system takes
// one of them much faster than many small ones.
var pieces = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// copyBounded copies at most limit bytes and reports input that has more.
func copyBounded(dst io.Writer, src io.Reader, limit int64) (int64, error) {
	piece := pieces.Get().(*[256 << 10]byte)
	defer pieces.Put(piece)
	n, err := copyPieces(dst, io.LimitReader(src, limit), piece[:])
	if err != nil || n < limit {
		return n, err
	}
	var one [1]byte
	if m, err := io.ReadFull(src, one[:]); m > 0 {
		return n, fmt.Errorf("%w: more than %d bytes", ErrSize, limit)
	} else if !errors.Is(err, io.EOF) {
		return n, err
	}
	return n, nil
}

// copyPieces is io.CopyBuffer that fills the buffer before each write, however
// little each read returns.
func copyPieces(dst io.Writer, src io.Reader, piece []byte) (done int64, err error) {
	for err == nil {
		n := 0
		for n < len(piece) && err == nil {
			var m int
			m, err = src.Read(piece[n:])
			n += m
		}
		if n > 0 {
			m, werr := dst.Write(piece[:n])
			done += int64(m)
			if werr != nil {
				return done, werr
			}
		}
	}
	if err == io.EOF { //nolint:errorlint // as readers return it; a wrapped one is an error
		err = nil
	}
	return done, err
}

var inflaters sync.Pool

func inflate(dst io.Writer, in *bufio.Reader, limit int64) (int64, error) {
	r, pooled := inflaters.Get().(io.ReadCloser)
	if pooled {
		if err := r.(zlib.Resetter).Reset(in, nil); err != nil {
			return 0, corrupt(object.Zlib, err)
		}
	} else {
		var err error
		if r, err = zlib.NewReader(in); err != nil {
			return 0, corrupt(object.Zlib, err)
		}
	}
	defer inflaters.Put(r)
	n, err := copyBounded(dst, &tagged{r, object.Zlib}, limit)
	return n, err
}

var unzstders sync.Pool

func unzstd(dst io.Writer, in *bufio.Reader, limit int64) (int64, error) {
	d, pooled := unzstders.Get().(*zstd.Decoder)
	if !pooled {
		var err error
		d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return 0, fmt.Errorf("start zstd decoder: %w", err)
		}
	}
	frame := &frameReader{in: in}
	if err := d.Reset(frame); err != nil {
		return 0, corrupt(object.Zstd, err)
	}
	n, err := copyBounded(dst, &tagged{d, object.Zstd}, limit)
	if err == nil && !frame.done {
		err = fmt.Errorf("%w: zstd frame is incomplete", ErrCorrupt)
	}
	if d.Reset(nil) == nil {
		unzstders.Put(d)
	}
	return n, err
}

// tagged marks what a decoder complains of as corruption, so that errors of
// the output keep their own kind.
type tagged struct {
	io.Reader
	c object.Compression
}

func (t *tagged) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = corrupt(t.c, err)
	}
	return n, err
}

func corrupt(c object.Compression, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, c, err)
}
