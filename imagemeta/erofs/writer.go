package erofs

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/rootstock-cf/rootstock/imagemeta"
)

// Write writes the image of a tree to w, which holds nothing yet, and returns
// its size in bytes. entries are a whole listing as [imagemeta.Decode] returns
// it. The same entries make the same image, inode numbers included.
//
// It returns an error wrapping [imagemeta.ErrInvalid] or
// [imagemeta.ErrUnsupported] for what no image can show, or what w returned.
// Its memory is about 50 bytes per entry, whatever the image's size.
func Write(w io.WriterAt, entries []imagemeta.Entry) (size int64, err error) {
	l, err := plan(entries)
	if err != nil {
		return 0, fmt.Errorf("write EROFS image: %w", err)
	}
	iw := writer{
		layout: l,
		meta:   section{w: w, buf: make([]byte, 0, sectionSize+blockSize)},
		data:   section{w: w, at: l.meta << blockBits},
	}
	if err := iw.write(); err != nil {
		return 0, fmt.Errorf("write EROFS image: %w", err)
	}
	return l.blocks << blockBits, nil
}

// sectionSize is how many bytes are collected before they are written. It is
// at least the first block, which has a checksum.
const sectionSize = 128 << 10

// section is a run of the image that is written from front to back.
type section struct {
	w   io.WriterAt
	at  int64 // where buf begins
	buf []byte
}

func (s *section) pos() int64 { return s.at + int64(len(s.buf)) }

// padTo appends zeros up to pos.
func (s *section) padTo(pos int64) {
	var zeros [blockSize]byte
	for n := pos - s.pos(); n > 0; n = pos - s.pos() {
		s.buf = append(s.buf, zeros[:min(n, blockSize)]...)
	}
}

func (s *section) flush() error {
	_, err := s.w.WriteAt(s.buf, s.at)
	s.at += int64(len(s.buf))
	s.buf = s.buf[:0]
	return err
}

type writer struct {
	*layout
	meta  section // superblock and inodes
	data  section // blocks
	names []name  // scratch
	err   error   // of a write in the middle of a directory
}

func (w *writer) write() error {
	w.meta.padTo(superOffset)
	w.super()
	for i := range w.inodes {
		n := &w.inodes[i]
		w.meta.padTo(n.pos)
		w.inode(n, uint32(i+1)) // #nosec G115 -- checked in plan
		if err := w.drain(sectionSize); err != nil {
			return err
		}
	}
	w.meta.padTo(w.layout.meta << blockBits)
	return w.drain(1)
}

// drain writes what has been collected, if it is so many bytes.
func (w *writer) drain(least int) error {
	if w.err != nil {
		return w.err
	}
	if len(w.meta.buf) >= least {
		if w.meta.at == 0 {
			first := w.meta.buf[superOffset:blockSize]
			le.PutUint32(first[4:], ^crc32.Checksum(first, castagnoli))
		}
		if err := w.meta.flush(); err != nil {
			return err
		}
	}
	if len(w.data.buf) >= least {
		return w.data.flush()
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// super appends the superblock, its checksum still 0.
func (w *writer) super() {
	var b [superSize]byte
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], featureChecksum|featureMTime)
	b[12] = blockBits
	le.PutUint16(b[14:], uint16(w.inodes[0].number())) // #nosec G115 -- in the first two blocks
	le.PutUint64(b[16:], uint64(len(w.inodes)))
	le.PutUint32(b[36:], uint32(w.blocks)) // #nosec G115 -- checked in place
	le.PutUint32(b[80:], featureChunks)
	w.meta.buf = append(w.meta.buf, b[:]...)
}

func (w *writer) inode(n *inode, number uint32) {
	e := &w.entries[n.entry]
	size, u := uint64(e.Size), n.addr // #nosec G115 -- not negative
	switch {
	case e.IsDir():
		size = w.dirBlocks(n)
	case e.IsSymlink():
		size = uint64(len(e.Target))
		if n.blocks > 0 {
			w.data.buf = append(w.data.buf, e.Target...)
			w.data.padTo((w.data.pos() + blockSize - 1) &^ (blockSize - 1))
		}
	case e.IsDevice():
		// As the kernel's new_encode_dev has it.
		u = e.Minor&0xff | e.Major<<8 | (e.Minor&^0xff)<<12
	case e.Size > 0:
		u = chunkBits(size)
	}
	var b [inodeSize]byte
	le.PutUint16(b[0:], 1|n.layout<<1)
	if n.xattrs > 0 {
		le.PutUint16(b[2:], uint16((n.xattrs-xattrHeader)/4+1)) // #nosec G115 -- limited
	}
	le.PutUint16(b[4:], uint16(e.Mode)) // #nosec G115 -- 16 bits
	le.PutUint64(b[8:], size)
	le.PutUint32(b[16:], u)
	le.PutUint32(b[20:], number)
	le.PutUint32(b[24:], e.UID)
	le.PutUint32(b[28:], e.GID)
	le.PutUint64(b[32:], uint64(e.MTime)) // #nosec G115 -- wraps on purpose
	le.PutUint32(b[40:], e.Nsec)
	le.PutUint32(b[44:], n.links)
	w.meta.buf = append(w.meta.buf, b[:]...)
	if n.xattrs > 0 {
		w.meta.buf = appendXAttrs(w.meta.buf, e)
	}
	switch {
	case n.layout == layoutChunks:
		w.meta.buf = le.AppendUint32(w.meta.buf, hole)
	case n.layout == layoutInline && e.IsSymlink():
		w.meta.buf = append(w.meta.buf, e.Target...)
	case n.layout == layoutInline:
		w.meta.buf = w.appendNames(w.meta.buf, w.names)
	}
}

// dirBlocks appends a directory's full blocks, leaves the names that go
// behind its inode in w.names, and returns the directory's size.
func (w *writer) dirBlocks(n *inode) (size uint64) {
	w.names = w.directory(n, w.names, func(block uint32, names []name) {
		if block == n.blocks { // the tail
			size = uint64(block)<<blockBits + uint64(n.tail)
			return
		}
		begin := w.data.pos()
		w.data.buf = w.appendNames(w.data.buf, names)
		size = uint64(block)<<blockBits + uint64(w.data.pos()-begin) // #nosec G115 -- not negative
		w.data.padTo(begin + blockSize)
		if len(w.data.buf) >= sectionSize && w.err == nil {
			w.err = w.data.flush()
		}
	})
	return size
}

// chunkBits returns by how many bits a chunk is larger than a block if it is
// to hold size bytes.
func chunkBits(size uint64) (bits uint32) {
	for uint64(1)<<(bits+blockBits) < size {
		bits++
	}
	return bits
}

// appendXAttrs appends e's xattrs and for a file with content those that say
// where it is.
func appendXAttrs(b []byte, e *imagemeta.Entry) []byte {
	b = append(b, make([]byte, xattrHeader)...)
	for i := range e.XAttrs {
		index, rest, _ := imagemeta.XAttrPrefix(e.XAttrs[i].Name)
		b = appendXAttr(b, index, rest, e.XAttrs[i].Value)
	}
	if e.Size == 0 {
		return b
	}
	var path [redirectSize]byte
	path[0], path[3] = '/', '/'
	hex.Encode(path[1:], e.Content[:1])
	hex.Encode(path[4:], e.Content[1:])
	b = appendXAttr(b, trusted, metacopyName, nil)
	return appendXAttr(b, trusted, redirectName, path[:])
}

func appendXAttr(b []byte, index byte, rest string, value []byte) []byte {
	b = append(b, byte(len(rest)), index, byte(len(value)), byte(len(value)>>8))
	b = append(b, rest...)
	b = append(b, value...)
	for n := xattrEntry + len(rest) + len(value); n%4 != 0; n++ {
		b = append(b, 0)
	}
	return b
}
