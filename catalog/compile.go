package catalog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Compile writes the catalog r reads as an index to path, which appears whole
// or not at all; what was there is replaced. It returns [ErrInvalid] if the
// rows are not one tree: rows that the root does not lead to, names that come
// twice in a directory, path keys that are not those of the paths, mountpoints
// without a nested catalog or with children, nested catalogs without a
// mountpoint.
//
// The root is the row of the root prefix or, in a catalog whose rows are those
// of another place (it is meant to be bind-mounted), its one row with
// NestedRoot.
func Compile(ctx context.Context, r *Reader, path string) error {
	c := &compiler{prefix: r.RootPrefix()}
	c.revision = r.Revision()
	if err := c.collect(ctx, r); err != nil {
		return fmt.Errorf("compile catalog %s: %w", r.db.Path(), err)
	}
	if err := c.arrange(); err != nil {
		return fmt.Errorf("compile catalog %s: %w", r.db.Path(), err)
	}
	if err := c.write(path); err != nil {
		return fmt.Errorf("compile catalog %s: %w", r.db.Path(), err)
	}
	return nil
}

// compiler holds a catalog's rows in the order of the scan, the records being
// complete but for what says where other rows are.
type compiler struct {
	header
	prefix string

	keys, parents []PathKey
	recs          [][recordSize]byte
	blob          []byte
	chunkTab      []byte
	attached      []Nested // nested catalogs, then binds

	root      uint32 // row of the scan
	checkKeys bool   // whether the keys are those of paths below prefix

	order  []uint32 // rows of the scan as they are written
	rowOf  []uint32 // the inverse: where each is written
	mounts []uint32 // where the row of each attached is written
}

var errTooLarge = fmt.Errorf("%w: more than an index can hold", ErrInvalid)

// collect reads everything from the database.
func (c *compiler) collect(ctx context.Context, r *Reader) (err error) {
	if c.self, c.subtree, err = r.Counters(); err != nil {
		return err
	}
	nested, err := r.Nested()
	if err != nil {
		return err
	}
	binds, err := r.Binds()
	if err != nil {
		return err
	}
	c.attached = slices.Concat(nested, binds)
	c.header.nested, c.binds = uint32(len(nested)), uint32(len(binds)) // #nosec G115 -- bounded by the file's size
	// The stored counters are only a hint of how much room to make.
	rows := min(c.self.Regular+c.self.Symlink+c.self.Special+c.self.Dir, r.db.Size()/int64(recordSize)) + 1
	c.keys, c.parents = make([]PathKey, 0, rows), make([]PathKey, 0, rows)
	c.recs = make([][recordSize]byte, 0, rows)
	return r.scan(ctx, c.add)
}

// add appends one row of the scan.
func (c *compiler) add(row *Row, xattr []byte) error {
	if len(c.recs) >= math.MaxInt32 || len(c.blob) > math.MaxUint32-maxSymlink-maxXAttrBlob-maxName {
		return errTooLarge
	}
	c.keys, c.parents = append(c.keys, row.Key), append(c.parents, row.Parent)
	c.recs = append(c.recs, [recordSize]byte{})
	rec := &c.recs[len(c.recs)-1]
	// #nosec G115 -- all of it wraps on purpose or is bounded above
	{
		le.PutUint64(rec[recSize:], uint64(row.Size))
		le.PutUint64(rec[recMTime:], uint64(row.MTime))
		le.PutUint32(rec[recMTimeNS:], uint32(row.MTimeNS))
		rec[recNameLen] = byte(len(row.Name))
	}
	le.PutUint32(rec[recMode:], row.Mode)
	le.PutUint32(rec[recUID:], row.UID)
	le.PutUint32(rec[recGID:], row.GID)
	le.PutUint32(rec[recFlags:], uint32(row.Flags))
	le.PutUint32(rec[recLinks:], row.Links)
	le.PutUint32(rec[recGroup:], row.Group)
	rec[recAlg], rec[recComp] = byte(row.Algorithm), byte(row.Compression)
	if !row.Hash.IsZero() {
		copy(rec[recDigest:], row.Hash.Digest[:])
		rec[recHashed] = 1
	}
	le.PutUint32(rec[recName:], c.text(row.Name))
	switch {
	case row.IsSymlink():
		le.PutUint32(rec[recAux:], c.text(row.Symlink))
		le.PutUint32(rec[recAuxLen:], uint32(len(row.Symlink))) // #nosec G115 -- at most maxSymlink
	case row.Flags&Chunked != 0:
		le.PutUint32(rec[recAux:], uint32(len(c.chunkTab)/chunkSize)) // #nosec G115 -- bounded by the file's size
		le.PutUint32(rec[recAuxLen:], uint32(len(row.Chunks)))        // #nosec G115
		for i := range row.Chunks {
			ch := &row.Chunks[i]
			c.chunkTab = le.AppendUint64(c.chunkTab, uint64(ch.Offset)) // #nosec G115 -- not negative
			c.chunkTab = le.AppendUint64(c.chunkTab, uint64(ch.Size))   // #nosec G115
			c.chunkTab = append(c.chunkTab, ch.Hash.Digest[:]...)
		}
	}
	if len(xattr) > 0 {
		if _, err := DecodeXAttrs(xattr); err == nil {
			le.PutUint32(rec[recXAttr:], uint32(len(c.blob))) // #nosec G115 -- checked above
			le.PutUint32(rec[recXAttrN:], uint32(len(xattr))) // #nosec G115
			c.blob = append(c.blob, xattr...)
			c.anyXAttrs = true
		}
	}
	return nil
}

// text appends s to the blob and returns where it begins.
func (c *compiler) text(s string) uint32 {
	off := len(c.blob)
	c.blob = append(c.blob, s...)
	return uint32(off) // #nosec G115 -- add keeps the blob below 4 GiB
}

// write stores the index beside path and renames it into place. Nothing is
// synced; see [Index.Verify].
func (c *compiler) write(path string) (err error) {
	prefix := c.text(c.prefix)
	paths := make([]uint32, len(c.attached))
	for i, n := range c.attached {
		if len(c.blob) > math.MaxUint32-2*maxPath {
			return errTooLarge
		}
		paths[i] = c.text(n.Path)
	}
	c.header.prefix, c.prefixLen = prefix, uint32(len(c.prefix))              // #nosec G115 -- at most maxPath
	c.rows, c.chunks = uint32(len(c.recs)), uint32(len(c.chunkTab)/chunkSize) // #nosec G115 -- bounded by the file's size
	c.header.blob = uint32(len(c.blob))                                       // #nosec G115 -- checked where it grows

	f, err := os.CreateTemp(filepath.Dir(path), ".index-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = c.fill(f, paths)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write catalog index: %w", err)
	}
	return os.Rename(f.Name(), path)
}

// fill writes the sections, and before them the header, which has their
// checksum.
func (c *compiler) fill(f *os.File, paths []uint32) error {
	if _, err := f.Seek(headerSize, io.SeekStart); err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), 256<<10)
	c.sections(out, paths)
	if err := out.Flush(); err != nil {
		return err
	}
	c.sum = sum.Sum32()
	_, err := f.WriteAt(c.encode(), 0)
	return err
}

// sections writes everything behind the header. The errors of out stick; its
// Flush reports them.
func (c *compiler) sections(out *bufio.Writer, paths []uint32) {
	for _, row := range c.order {
		out.Write(c.recs[row][:]) //nolint:errcheck // sticky
	}
	out.Write(c.chunkTab) //nolint:errcheck // sticky
	for i, n := range c.attached {
		var e [nestedSize]byte
		le.PutUint32(e[0:], c.mounts[i])
		le.PutUint32(e[4:], paths[i])
		le.PutUint32(e[8:], uint32(len(n.Path))) // #nosec G115 -- at most maxPath
		e[12] = byte(n.Hash.Algorithm)
		le.PutUint64(e[16:], uint64(n.Size)) // #nosec G115 -- not negative
		copy(e[24:], n.Hash.Digest[:])
		out.Write(e[:]) //nolint:errcheck // sticky
	}
	out.Write(c.blob) //nolint:errcheck // sticky
}
