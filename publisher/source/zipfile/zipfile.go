// Package zipfile reads zip archives from strangers (APPNOTE.TXT 6.3, with
// zip64). The list of files comes in from the central directory and must agree
// with the header in front of each file; contents go out one at a time, in the
// order in which they lie, and end with io.EOF only if size and checksum are
// those promised.
//
// It is strict where programs that read zips differ, since what one of them
// shows and another runs must be the same file: names that climb or come twice,
// files below something that is no directory, entries that overlap, an archive
// within another's comment. Nothing is extracted.
package zipfile

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

var (
	// ErrFormat reports bytes that are no zip, or a damaged one.
	ErrFormat = errors.New("malformed zip")
	// ErrHostile reports what no honest tool writes.
	ErrHostile = errors.New("refused")
	// ErrUnsupported reports a well-formed zip that is not read.
	ErrUnsupported = errors.New("unsupported")
	// ErrTooLarge reports a zip beyond one of the Limits.
	ErrTooLarge = errors.New("too large")
)

// Limits bounds an archive, by what it says before anything is decompressed.
type Limits struct {
	MaxFiles int   // 0 is one million
	MaxBytes int64 // of all contents together, uncompressed; 0 is 256 GiB
	// MaxRatio bounds uncompressed : compressed bytes of the whole archive
	// once it is over 256 MiB; 0 is 200.
	MaxRatio int64
}

const (
	defaultMaxFiles = 1_000_000
	defaultMaxBytes = 256 << 30
	defaultMaxRatio = 200
	ratioFloor      = 256 << 20 // bytes below which no ratio is suspicious
	maxDirectory    = 256 << 20 // bytes of the central directory
)

func (l Limits) withDefaults() Limits {
	if l.MaxFiles <= 0 {
		l.MaxFiles = defaultMaxFiles
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = defaultMaxBytes
	}
	if l.MaxRatio <= 0 {
		l.MaxRatio = defaultMaxRatio
	}
	return l
}

// The types of files in [File.Mode], as in st_mode.
const (
	ModeType    = 0o170000
	ModeDir     = 0o040000
	ModeRegular = 0o100000
	ModeSymlink = 0o120000
)

// File is an entry. Its content, of a symbolic link the target, comes from
// [Archive.Open].
type File struct {
	Name  string // bytes as they are, relative, without a slash at the end
	Mode  uint32 // st_mode: type and permissions
	Plain bool   // the archive states no permissions: they are 0755 and 0644
	Size  int64  // bytes
	// ModTime is in UTC. A time that states no zone is taken to be UTC, so
	// that it is the same on every machine.
	ModTime time.Time

	method, flags uint16
	crc           uint32
	packed        int64 // bytes as stored
	header, data  int64 // where they begin
}

// Archive is a zip that was found to be sound, but for its contents.
type Archive struct {
	// Files are in the order in which they lie in the archive.
	Files []File
	in    io.ReaderAt
}

// Open reads the list of a zip of size bytes. r is read from until the last
// content is.
func Open(r io.ReaderAt, size int64, l Limits) (*Archive, error) {
	l = l.withDefaults()
	d, err := findDirectory(r, size)
	if err != nil {
		return nil, err
	}
	if d.files > uint64(l.MaxFiles) { //nolint:gosec // positive
		return nil, fmt.Errorf("%w: %d files, more than %d", ErrTooLarge, d.files, l.MaxFiles)
	}
	a := &Archive{in: r}
	if a.Files, err = readDirectory(r, d); err != nil {
		return nil, err
	}
	if err := checkSizes(a.Files, l); err != nil {
		return nil, err
	}
	if err := checkNames(a.Files); err != nil {
		return nil, err
	}
	slices.SortFunc(a.Files, func(a, b File) int { return int(min(max(a.header-b.header, -1), 1)) })
	for i := range a.Files {
		end := d.at
		if i+1 < len(a.Files) {
			end = a.Files[i+1].header
		}
		if err := a.place(&a.Files[i], end); err != nil {
			return nil, fmt.Errorf("%q: %w", a.Files[i].Name, err)
		}
	}
	return a, nil
}

// checkSizes refuses a bomb before anything of it is decompressed: no content
// will be longer than it says here.
func checkSizes(files []File, l Limits) error {
	var size, packed int64
	for i := range files {
		f := &files[i]
		if size += f.Size; size < 0 || size > l.MaxBytes {
			return fmt.Errorf("%w: more than %d bytes uncompressed; raise the limit if that is what it should be", ErrTooLarge, l.MaxBytes)
		}
		packed += f.packed // each within the file, and none twice
	}
	if size > ratioFloor && size/l.MaxRatio > packed {
		return fmt.Errorf("%w: %d bytes decompress to %d, more than %d to 1, like a decompression bomb; raise the ratio limit if it is none",
			ErrTooLarge, packed, size, l.MaxRatio)
	}
	return nil
}

// checkNames refuses names that are not plainly those of files of one tree.
func checkNames(files []File) error {
	dirs := make(map[string]bool, len(files)) // false for what is no directory
	for i := range files {
		f := &files[i]
		if err := checkName(f.Name); err != nil {
			return fmt.Errorf("%q: %w", f.Name, err)
		}
		if _, twice := dirs[f.Name]; twice {
			return fmt.Errorf("%w: %q comes twice", ErrHostile, f.Name)
		}
		dirs[f.Name] = f.Mode&ModeType == ModeDir
	}
	for i := range files {
		name := files[i].Name
		for at := strings.LastIndexByte(name, '/'); at >= 0; at = strings.LastIndexByte(name[:at], '/') {
			if dir, ok := dirs[name[:at]]; ok && !dir {
				return fmt.Errorf("%w: %q lies below %q, which is no directory", ErrHostile, name, name[:at])
			}
		}
	}
	return nil
}

const maxName = 4095 // bytes, what PATH_MAX leaves room for

func checkName(name string) error {
	switch {
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("%w: a name with a zero byte", ErrHostile)
	case len(name) > maxName:
		return fmt.Errorf("%w: a name of %d bytes, more than %d", ErrHostile, len(name), maxName)
	case strings.HasPrefix(name, "/"):
		return fmt.Errorf("%w: an absolute name", ErrHostile)
	}
	for rest, more := name, true; more; {
		var c string
		switch c, rest, more = strings.Cut(rest, "/"); c {
		case "..":
			return fmt.Errorf("%w: a name that climbs with \"..\"", ErrHostile)
		case "", ".":
			return fmt.Errorf("%w: a name with an empty part, or one that is \".\"", ErrHostile)
		}
	}
	return nil
}
