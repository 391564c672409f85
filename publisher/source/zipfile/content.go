package zipfile

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
)

const bufBytes = 128 << 10

// Reader reads the contents of an archive, one at a time, with the same
// buffers. It is for one goroutine and need not be closed.
type Reader struct {
	archive *Archive
	buf     *bufio.Reader
	inflate io.ReadCloser
}

// NewReader returns a Reader of a.
func (a *Archive) NewReader() *Reader {
	return &Reader{archive: a, buf: bufio.NewReaderSize(nil, bufBytes)}
}

// Open begins the content of f, one of the archive's Files, and ends the one
// before. Reading it gives exactly f.Size bytes and io.EOF, or an error.
func (r *Reader) Open(f *File) io.Reader {
	r.buf.Reset(io.NewSectionReader(r.archive.in, f.data, f.packed))
	c := &content{f: f, packed: r.buf, from: r.buf}
	if f.method == deflated {
		if r.inflate == nil {
			r.inflate = flate.NewReader(r.buf)
		} else {
			r.inflate.(flate.Resetter).Reset(r.buf, nil) //nolint:errcheck,forcetypeassert // as package flate promises
		}
		c.from = r.inflate
	}
	return c
}

// content proves what it lets through.
type content struct {
	f      *File
	packed *bufio.Reader
	from   io.Reader
	n      int64
	crc    uint32
	err    error
}

func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.from.Read(p)
	c.crc = crc32.Update(c.crc, crc32.IEEETable, p[:n])
	if c.n += int64(n); c.n > c.f.Size {
		n, err = 0, fmt.Errorf("%w: longer than the %d bytes announced", ErrHostile, c.f.Size)
	}
	if err != nil {
		c.err = c.end(err)
	}
	return n, c.err
}

// end judges why the content ended.
func (c *content) end(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, ErrHostile):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &corrupt):
		return fmt.Errorf("%w: its compressed bytes are damaged: %w", ErrFormat, err)
	case !errors.Is(err, io.EOF):
		return err
	case c.n != c.f.Size:
		return fmt.Errorf("%w: %d bytes where %d were announced", ErrFormat, c.n, c.f.Size)
	case c.crc != c.f.crc:
		return fmt.Errorf("%w: its checksum does not hold; fetch or make the zip again", ErrFormat)
	}
	if _, err := c.packed.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: bytes follow its content", ErrHostile)
	}
	return io.EOF
}
