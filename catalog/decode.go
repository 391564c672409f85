package catalog

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
	"github.com/rootstock-cf/rootstock/object"
)

// Row is an [Entry] with what its place in a database adds.
type Row struct {
	ID     int64 // SQLite's rowid, from which stock clients make inode numbers
	Key    PathKey
	Parent PathKey // zero for the repository's root
	Entry

	// BadXAttrs says that the row had an xattr blob that is not one, which
	// reads as no attributes.
	BadXAttrs bool
}

// decodeRow reads all of a row but its chunks and returns the xattr blob as it
// is stored.
func decodeRow(r *sqlfile.Rows, row *Row) ([]byte, error) {
	*row = Row{
		ID:     r.Int(colID),
		Key:    PathKey{r.Int(colKeyA), r.Int(colKeyB)},
		Parent: PathKey{r.Int(colParentA), r.Int(colParentB)},
	}
	e := &row.Entry
	e.Name, e.Symlink = r.Text(colName, maxName), r.Text(colSymlink, maxSymlink)
	e.Size, e.MTime = r.Int(colSize), r.Int(colMTime)
	mode, flags, uid, gid := r.Int(colMode), r.Int(colFlags), r.Int(colUID), r.Int(colGID)
	ns := r.IntOr(colMTimeNS, NoNanoseconds)
	e.Links, e.Group = DecodeLinks(r.Int(colLinks))
	digest, hashed := r.Digest(colHash)
	blob := r.Blob(colXAttr, maxXAttrBlob)
	if err := r.Err(); err != nil {
		return nil, err
	}
	if !fits32(mode) || !fits32(flags) || !fits32(uid) || !fits32(gid) ||
		ns < NoNanoseconds || ns > 999_999_999 || e.Size < 0 {
		return nil, fmt.Errorf("%w: row %d %q: a number is out of its range", ErrInvalid, row.ID, e.Name)
	}
	// #nosec G115 -- checked above
	e.Mode, e.UID, e.GID, e.MTimeNS = uint32(mode), uint32(uid), uint32(gid), int32(ns)
	if err := DecodeFlags(uint32(flags), e); err != nil { // #nosec G115
		return nil, fmt.Errorf("row %d %q: %w", row.ID, e.Name, err)
	}
	if hashed && !e.IsRegular() {
		return nil, fmt.Errorf("%w: row %d %q has content and mode %#o", ErrInvalid, row.ID, e.Name, e.Mode)
	}
	if hashed {
		e.Hash = object.Hash{Algorithm: e.Algorithm, Digest: digest}
	}
	isRoot := e.Name == "" && row.Parent == PathKey{} && row.Key == KeyOf("")
	if !isRoot {
		if err := checkName(e.Name); err != nil {
			return nil, fmt.Errorf("row %d: %w", row.ID, err)
		}
	}
	return blob, checkFields(e)
}

// checkFields refuses fields that belong to another kind of entry.
func checkFields(e *Entry) error {
	switch {
	case !e.Hash.IsZero() && !e.IsRegular():
		return fmt.Errorf("%w: %q has content and mode %#o", ErrInvalid, e.Name, e.Mode)
	case e.Symlink != "" && !e.IsSymlink():
		return fmt.Errorf("%w: %q has a link target and mode %#o", ErrInvalid, e.Name, e.Mode)
	case strings.IndexByte(e.Symlink, 0) >= 0:
		return fmt.Errorf("%w: %q has a link target with a NUL", ErrInvalid, e.Name)
	}
	return nil
}

// checkChunks refuses chunks that do not tile the file (CVMFS-FORMAT 2.8).
func checkChunks(e *Entry) error {
	if e.Flags&Chunked == 0 {
		if len(e.Chunks) > 0 {
			return fmt.Errorf("%w: %q has chunks and is not chunked", ErrInvalid, e.Name)
		}
		return nil
	}
	var end int64
	for _, c := range e.Chunks {
		if c.Offset != end || c.Size <= 0 || c.Size > math.MaxInt64-end {
			return fmt.Errorf("%w: %q: chunk of %d bytes at %d follows %d", ErrInvalid, e.Name, c.Size, c.Offset, end)
		}
		end += c.Size
	}
	if end != e.Size || len(e.Chunks) == 0 {
		return fmt.Errorf("%w: %q: %d chunks hold %d of %d bytes", ErrInvalid, e.Name, len(e.Chunks), end, e.Size)
	}
	return nil
}

// decodeChunk reads the columns offset, size, hash beginning at col.
func decodeChunk(r *sqlfile.Rows, col int) (Chunk, error) {
	c := Chunk{Offset: r.Int(col), Size: r.Int(col + 1)}
	digest, ok := r.Digest(col + 2)
	if r.Err() == nil && !ok {
		return c, fmt.Errorf("%w: chunk at %d has no hash", ErrInvalid, c.Offset)
	}
	c.Hash.Digest = digest
	return c, nil
}

// takeChunks gives e its chunks, which get the file's algorithm.
func takeChunks(e *Entry, chunks []Chunk) error {
	for i := range chunks {
		chunks[i].Hash.Algorithm = e.Algorithm
	}
	e.Chunks = slices.Clip(chunks)
	return checkChunks(e)
}

// takeXAttrs decodes the blob the way stock clients do: one that is malformed
// reads as no attributes.
func takeXAttrs(row *Row, blob []byte) {
	xattrs, err := DecodeXAttrs(blob)
	row.XAttrs, row.BadXAttrs = xattrs, err != nil
}

func fits32(n int64) bool { return n >= 0 && n <= math.MaxUint32 }
