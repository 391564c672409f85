package check

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/spill"
)

// want is an object that a catalog or a tree's table names, and what it must
// turn out to be.
type want struct {
	hash        object.Hash
	typ         object.Type
	compression object.Compression
	size        int64            // plain bytes
	content     object.ContentID // of the plain bytes; zero if nobody says
}

// A want as a record, so that what concerns one object comes together, and
// those of one encoding within that:
//
//	digest 20, algorithm, type, compression, size 8, content 32, path 8
//
// path is where in the file of paths it stands.
const (
	objectBytes = object.DigestSize + 2
	expectBytes = objectBytes + 1 + 8
	wantBytes   = expectBytes + 32 + 8
)

func (w *want) record(path uint64) []byte {
	b := make([]byte, 0, wantBytes)
	b = append(b, w.hash.Digest[:]...)
	b = append(b, byte(w.hash.Algorithm), byte(w.typ), byte(w.compression))
	b = binary.BigEndian.AppendUint64(b, uint64(w.size)) // #nosec G115 -- not negative
	b = append(b, w.content[:]...)
	return binary.BigEndian.AppendUint64(b, path)
}

func parseWant(b []byte) (w want, path uint64) {
	w.hash.Algorithm = object.Algorithm(b[object.DigestSize])
	copy(w.hash.Digest[:], b)
	w.typ, w.compression = object.Type(b[object.DigestSize+1]), object.Compression(b[objectBytes])
	w.size = int64(binary.BigEndian.Uint64(b[objectBytes+1:])) // #nosec G115 -- as it was put in
	copy(w.content[:], b[expectBytes:])
	return w, binary.BigEndian.Uint64(b[expectBytes+32:])
}

// wants collects them on disk: sorted records, and one file of the paths that
// findings will name.
type wants struct {
	mu     sync.Mutex
	sorter *spill.Sorter
	paths  *os.File
	out    *bufio.Writer
	at     uint64
	n      int64
	err    error
}

func newWants(dir string) (*wants, error) {
	f, err := os.CreateTemp(dir, "paths-")
	if err != nil {
		return nil, err
	}
	return &wants{sorter: spill.New(dir, wantBytes, 0), paths: f, out: bufio.NewWriterSize(f, 64<<10)}, nil
}

// want asks for an object on behalf of path.
func (c *checker) want(w want, path string) {
	c.wants.mu.Lock()
	defer c.wants.mu.Unlock()
	if c.wants.err == nil {
		c.wants.err = c.wants.add(&w, path)
	}
}

func (w *wants) add(x *want, path string) error {
	if err := w.sorter.Add(x.record(w.at)); err != nil {
		return err
	}
	head := binary.AppendUvarint(nil, uint64(len(path)))
	if _, err := w.out.Write(head); err != nil {
		return err
	}
	if _, err := w.out.WriteString(path); err != nil {
		return err
	}
	w.at += uint64(len(head) + len(path))
	w.n++
	return nil
}

// finish ends the collecting.
func (w *wants) finish() error {
	if err := errors.Join(w.err, w.out.Flush()); err != nil {
		return fmt.Errorf("collect objects: %w", err)
	}
	return nil
}

// path reads a path back.
func (w *wants) path(at uint64) string {
	r := bufio.NewReaderSize(io.NewSectionReader(w.paths, int64(at), 1<<20), 512) // #nosec G115 -- an offset in our file
	n, err := binary.ReadUvarint(r)
	if err != nil || n > 1<<20 {
		return ""
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return ""
	}
	return string(b)
}

func (w *wants) Close() error { return errors.Join(w.sorter.Close(), w.paths.Close()) }
