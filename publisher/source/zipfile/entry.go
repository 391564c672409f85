package zipfile

import (
	"fmt"
	"strings"
	"time"
)

// extra is the list of further fields of an entry (APPNOTE 4.5).
type extra []byte

// field returns the first field of that number.
func (x extra) field(id uint16) ([]byte, bool) {
	for len(x) >= 4 {
		size := int(le.Uint16(x[2:]))
		if 4+size > len(x) {
			break
		}
		if le.Uint16(x) == id {
			return x[4 : 4+size], true
		}
		x = x[4+size:]
	}
	return nil, false
}

// zip64 replaces those numbers that did not fit into 32 bits.
func (x extra) zip64(numbers ...*int64) error {
	const id = 0x0001
	b, _ := x.field(id)
	for _, n := range numbers {
		if *n != none32 {
			continue
		}
		if len(b) < 8 {
			return fmt.Errorf("%w: a number of 64 bits is missing", ErrFormat)
		}
		if *n, b = int64(le.Uint64(b)), b[8:]; *n < 0 { //nolint:gosec // checked
			return fmt.Errorf("%w: a number of 64 bits is over 2^63", ErrHostile)
		}
	}
	return nil
}

// unixTime is the time that Info-ZIP and most others add, in UTC.
func (x extra) unixTime() (time.Time, bool) {
	const id = 0x5455
	b, ok := x.field(id)
	if !ok || len(b) < 5 || b[0]&1 == 0 {
		return time.Time{}, false
	}
	return time.Unix(int64(int32(le.Uint32(b[1:]))), 0).UTC(), true //nolint:gosec // signed, by definition
}

// dosTime has two seconds and no zone. 0 is no time at all.
func dosTime(date, clock uint16) time.Time {
	if date == 0 {
		return time.Unix(0, 0).UTC()
	}
	return time.Date(int(date>>9)+1980, time.Month(date>>5&15), int(date&31),
		int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}

// Systems whose tools store st_mode (APPNOTE 4.4.2).
const (
	madeOnUnix  = 3
	madeOnMacOS = 19
)

// setMode takes type and permissions from an entry's external attributes, and
// the slash from its name.
func (f *File) setMode(system byte, attributes uint32) error {
	name, slash := strings.CutSuffix(f.Name, "/")
	f.Name = name
	if system == madeOnUnix || system == madeOnMacOS {
		f.Mode = attributes >> 16
	}
	if f.Plain = f.Mode == 0; f.Plain {
		f.Mode = 0o644
		if slash {
			f.Mode = 0o755
		}
		if strings.Contains(name, `\`) {
			return fmt.Errorf(`%w: a "\" in a name from another system, which may mean a directory; make the zip anew with "/"`, ErrUnsupported)
		}
	}
	if f.Mode&ModeType == 0 {
		f.Mode |= ModeRegular
		if slash {
			f.Mode ^= ModeRegular | ModeDir
		}
	}
	switch kind := f.Mode & ModeType; {
	case kind != ModeDir && kind != ModeRegular && kind != ModeSymlink:
		return fmt.Errorf("%w: a device, pipe or socket (mode %o)", ErrUnsupported, f.Mode)
	case slash && kind != ModeDir:
		return fmt.Errorf("%w: a directory by its name, but not by its mode %o", ErrHostile, f.Mode)
	}
	return nil
}

const (
	stored   = 0 // methods of compression (APPNOTE 4.4.5)
	deflated = 8

	maxTarget = 4095 // bytes of a symbolic link's target
)

// check judges an entry by itself.
func (f *File) check() error {
	const encrypted = 1 | 1<<6 | 1<<13
	kind := f.Mode & ModeType
	switch {
	case f.flags&encrypted != 0:
		return fmt.Errorf("%q: %w: it is encrypted; make the zip anew without a password", f.Name, ErrUnsupported)
	case f.method != stored && f.method != deflated:
		return fmt.Errorf("%q: %w: compression method %d; make the zip anew with deflate, as every tool does unless told otherwise", f.Name, ErrUnsupported, f.method)
	case f.method == stored && f.packed != f.Size:
		return fmt.Errorf("%q: %w: %d bytes stored as %d", f.Name, ErrHostile, f.Size, f.packed)
	case kind == ModeDir && f.Size != 0:
		return fmt.Errorf("%q: %w: a directory with content", f.Name, ErrHostile)
	case kind == ModeSymlink && (f.Size == 0 || f.Size > maxTarget):
		return fmt.Errorf("%q: %w: a symbolic link's target of %d bytes (1 to %d)", f.Name, ErrHostile, f.Size, maxTarget)
	}
	return nil
}
