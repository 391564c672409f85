package object

import "fmt"

// Compression is how an object's bytes are stored, with the id that the
// catalog's flags carry (CVMFS-FORMAT 0.4). Catalogs, histories, certificates
// and metainfo are always Zlib, whatever a repository's files are.
type Compression uint8

// The compressions of file objects. CernVM-FS 2.12 clients know only the first
// two; upstream is adopting id 2 for zstd.
const (
	Zlib Compression = 0
	None Compression = 1
	Zstd Compression = 2
)

// ParseCompression reads a name as the command line spells it.
func ParseCompression(name string) (Compression, error) {
	for _, c := range []Compression{Zstd, Zlib, None} {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("compression %q is not one of zstd, zlib, none", name)
}

// String returns the command line's name of c.
func (c Compression) String() string {
	switch c {
	case Zlib:
		return "zlib"
	case None:
		return "none"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("compression %d", uint8(c))
}

// Valid reports whether c is a compression this module reads and writes.
func (c Compression) Valid() bool { return c <= Zstd }
