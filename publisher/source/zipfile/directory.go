package zipfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Signatures and fixed sizes of the records (APPNOTE 4.3).
const (
	localSignature     = 0x04034b50
	entrySignature     = 0x02014b50
	endSignature       = 0x06054b50
	end64Signature     = 0x06064b50
	locator64Signature = 0x07064b50

	localSize     = 30
	entrySize     = 46
	endSize       = 22
	end64Size     = 56
	locator64Size = 20

	maxComment = 1<<16 - 1
	none16     = 1<<16 - 1 // the number stands in the zip64 record
	none32     = 1<<32 - 1
)

var le = binary.LittleEndian

// directory is where the list of files lies.
type directory struct {
	files    uint64
	at, size int64 // bytes
}

// findDirectory reads the record at the end of the archive (APPNOTE 4.3.16).
func findDirectory(r io.ReaderAt, size int64) (directory, error) {
	if size < endSize {
		return directory{}, fmt.Errorf("%w: %d bytes are too few for one", ErrFormat, size)
	}
	tail := make([]byte, min(size, endSize+maxComment))
	if err := readAt(r, tail, size-int64(len(tail))); err != nil {
		return directory{}, err
	}
	at := -1
	for i := len(tail) - endSize; i >= 0; i-- {
		if le.Uint32(tail[i:]) != endSignature || i+endSize+int(le.Uint16(tail[i+20:])) != len(tail) {
			continue
		}
		if at >= 0 {
			return directory{}, fmt.Errorf("%w: it ends in two ways, one within the other's comment", ErrHostile)
		}
		at = i
	}
	if at < 0 {
		return directory{}, fmt.Errorf("%w: the record at its end is missing; is it whole, and a zip?", ErrFormat)
	}
	end := tail[at:]
	where := size - int64(len(tail)) + int64(at)
	d := directory{uint64(le.Uint16(end[10:])), int64(le.Uint32(end[16:])), int64(le.Uint32(end[12:]))}
	disk, first, here := le.Uint16(end[4:]), le.Uint16(end[6:]), le.Uint16(end[8:])
	stop := where
	if where >= locator64Size {
		var err error
		if stop, err = findDirectory64(r, where, &d); err != nil {
			return directory{}, err
		}
	}
	if (disk != 0 || first != 0) && stop == where || stop == where && uint64(here) != d.files {
		return directory{}, fmt.Errorf("%w: a part of an archive split over several files; join them with zip -s 0", ErrUnsupported)
	}
	switch {
	case d.at < 0 || d.size < 0 || d.size > stop || d.at != stop-d.size:
		return directory{}, fmt.Errorf("%w: its list of files is not where it should be, or something stands in front of the archive", ErrFormat)
	case d.size > maxDirectory:
		return directory{}, fmt.Errorf("%w: a list of files of %d bytes, more than %d", ErrTooLarge, d.size, maxDirectory)
	case d.files > uint64(d.size/entrySize): //nolint:gosec // positive
		return directory{}, fmt.Errorf("%w: a list of %d files in %d bytes", ErrFormat, d.files, d.size)
	}
	return d, nil
}

// findDirectory64 reads the zip64 records, if there are any, in front of the
// record at end, and returns where the list of files has to end.
func findDirectory64(r io.ReaderAt, end int64, d *directory) (int64, error) {
	var locator [locator64Size]byte
	if err := readAt(r, locator[:], end-locator64Size); err != nil {
		return 0, err
	}
	if le.Uint32(locator[:]) != locator64Signature {
		return end, nil
	}
	at := int64(le.Uint64(locator[8:])) //nolint:gosec // checked
	if at < 0 || at > end-locator64Size-end64Size {
		return 0, fmt.Errorf("%w: its zip64 record is not where it should be", ErrFormat)
	}
	var b [end64Size]byte
	if err := readAt(r, b[:], at); err != nil {
		return 0, err
	}
	// The record's own size leaves out 12 bytes; it may have room at its end.
	if le.Uint32(b[:]) != end64Signature || le.Uint64(b[4:]) != uint64(end-locator64Size-at-12) { //nolint:gosec // positive
		return 0, fmt.Errorf("%w: its zip64 record is damaged", ErrFormat)
	}
	if le.Uint32(locator[4:]) != 0 || le.Uint32(b[16:]) != 0 || le.Uint32(b[20:]) != 0 || le.Uint64(b[24:]) != le.Uint64(b[32:]) {
		return 0, fmt.Errorf("%w: a part of an archive split over several files; join them with zip -s 0", ErrUnsupported)
	}
	d64 := directory{le.Uint64(b[32:]), int64(le.Uint64(b[48:])), int64(le.Uint64(b[40:]))} //nolint:gosec // checked by the caller
	if d.files != none16 && d.files != d64.files || d.at != none32 && d.at != d64.at || d.size != none32 && d.size != d64.size {
		return 0, fmt.Errorf("%w: its two records at the end contradict each other", ErrHostile)
	}
	*d = d64
	return at, nil
}

func readDirectory(r io.ReaderAt, d directory) ([]File, error) {
	b := make([]byte, d.size)
	if err := readAt(r, b, d.at); err != nil {
		return nil, err
	}
	files := make([]File, 0, d.files)
	for len(files) < cap(files) {
		f, n, err := parseEntry(b)
		if err != nil {
			return nil, fmt.Errorf("file %d of %d: %w", len(files)+1, d.files, err)
		}
		files, b = append(files, f), b[n:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow its list of files", ErrFormat, len(b))
	}
	return files, nil
}

var errShort = fmt.Errorf("%w: its list of files ends early", ErrFormat)

// parseEntry reads one entry of the list, n bytes long (APPNOTE 4.3.12).
func parseEntry(b []byte) (f File, n int, err error) {
	if len(b) < entrySize || le.Uint32(b) != entrySignature {
		return f, 0, errShort
	}
	names, extras, comment := int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint16(b[32:]))
	if n = entrySize + names + extras + comment; n > len(b) {
		return f, 0, errShort
	}
	f.Name = string(b[entrySize : entrySize+names])
	f.flags, f.method, f.crc = le.Uint16(b[8:]), le.Uint16(b[10:]), le.Uint32(b[16:])
	f.packed, f.Size, f.header = int64(le.Uint32(b[20:])), int64(le.Uint32(b[24:])), int64(le.Uint32(b[42:]))
	f.ModTime = dosTime(le.Uint16(b[14:]), le.Uint16(b[12:]))
	x := extra(b[entrySize+names : entrySize+names+extras])
	if err := x.zip64(&f.Size, &f.packed, &f.header); err != nil {
		return f, 0, fmt.Errorf("%q: %w", f.Name, err)
	}
	if t, ok := x.unixTime(); ok {
		f.ModTime = t
	}
	if err := f.setMode(b[5], le.Uint32(b[38:])); err != nil {
		return f, 0, fmt.Errorf("%q: %w", f.Name, err)
	}
	return f, n, f.check()
}

// readAt fills b, or says that the archive is shorter than it claims.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends early", ErrFormat)
	}
	return err
}

// place finds a file's content behind its own header, which must say what the
// list says (APPNOTE 4.3.7), before end.
func (a *Archive) place(f *File, end int64) error {
	if f.header > end-localSize {
		return fmt.Errorf("%w: it overlaps with what follows", ErrHostile)
	}
	var b [localSize]byte
	if err := readAt(a.in, b[:], f.header); err != nil {
		return err
	}
	names, extras := int(le.Uint16(b[26:])), int(le.Uint16(b[28:]))
	f.data = f.header + localSize + int64(names+extras)
	if le.Uint32(b[:]) != localSignature {
		return fmt.Errorf("%w: there is no header in front of it", ErrFormat)
	}
	if f.data > end-f.packed {
		return fmt.Errorf("%w: it overlaps with what follows", ErrHostile)
	}
	rest := make([]byte, names+extras)
	if err := readAt(a.in, rest, f.header+localSize); err != nil {
		return err
	}
	packed, size := int64(le.Uint32(b[18:])), int64(le.Uint32(b[22:]))
	var offset int64
	if err := extra(rest[names:]).zip64(&size, &packed, &offset); err != nil {
		return err
	}
	sizes := packed == f.packed && size == f.Size && le.Uint32(b[14:]) == f.crc
	behind := le.Uint16(b[6:])&late != 0
	if behind {
		sizes = (packed == f.packed || packed == 0) && (size == f.Size || size == 0) && (le.Uint32(b[14:]) == f.crc || le.Uint32(b[14:]) == 0)
	}
	name := bytes.TrimSuffix(rest[:names], []byte("/"))
	if string(name) != f.Name || le.Uint16(b[8:]) != f.method || (le.Uint16(b[6:])^f.flags)&secret != 0 || f.flags&late != 0 && !behind || !sizes {
		return fmt.Errorf("%w: the header in front of it says something else than the archive's list", ErrHostile)
	}
	if behind {
		return a.checkDescriptor(f, end)
	}
	return nil
}

// Flags of an entry (APPNOTE 4.4.4).
const (
	secret = 1      // it is encrypted
	late   = 1 << 3 // sizes and checksum stand behind the content
)

// checkDescriptor compares the record behind a content with the list (APPNOTE
// 4.3.9). Its signature may be missing, its sizes may have 32 or 64 bits.
func (a *Archive) checkDescriptor(f *File, end int64) error {
	const signature, most = 0x08074b50, 24
	b := make([]byte, min(most, end-f.data-f.packed))
	if err := readAt(a.in, b, f.data+f.packed); err != nil {
		return err
	}
	fits := func(b []byte) bool {
		return len(b) >= 12 && le.Uint32(b) == f.crc &&
			(int64(le.Uint32(b[4:])) == f.packed && int64(le.Uint32(b[8:])) == f.Size ||
				len(b) >= 20 && le.Uint64(b[4:]) == uint64(f.packed) && le.Uint64(b[12:]) == uint64(f.Size)) //nolint:gosec // positive
	}
	if fits(b) || len(b) >= 4 && le.Uint32(b) == signature && fits(b[4:]) {
		return nil
	}
	return fmt.Errorf("%w: the record behind it says something else than the archive's list", ErrHostile)
}
