package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/object"
)

// ErrBusy reports an index that another publisher has open.
var ErrBusy = errors.New("index is in use by another publisher")

// Index remembers across runs which object holds which plain bytes, so that
// they need not be compressed again. It is a cache: deleting its files loses
// time and nothing else, and what it says is believed only of objects the
// store confirms to have.
//
// It is a file of records, each with its own checksum, that is only ever
// appended to. What follows the first bad record is dropped on opening.
type Index struct {
	key key

	mu      sync.Mutex
	file    *os.File
	pending []byte // records not yet written
	err     error  // the first failed write
	records map[object.ContentID]record
	lists   map[object.ContentID][]object.ContentID
}

// key is what an index is about: other settings make other objects.
type key struct {
	compression object.Compression
	algorithm   object.Algorithm
	chunking    Chunking
}

func keyOf(o Options) key { return key{o.Compression, o.Algorithm, o.Chunking} }

// record says which object holds some plain bytes, a content's or a piece's.
type record struct {
	size   int64 // plain bytes
	stored int64 // the object's bytes
	hash   object.Hash
}

// The file: a header, then records, all integers little endian.
//
//	header = "RSINDEX" 01, compression u8, algorithm u8, min avg max u64, checksum
//	object = 01, content id, size u64, stored u64, digest, checksum
//	list   = 02, content id, n u32, n content ids of pieces, checksum
//
// A checksum is the CRC-32C of the record before it.
const (
	indexMagic  = "RSINDEX\x01"
	kindObject  = 1
	kindList    = 2
	headerBytes = 8 + 2 + 3*8 + 4
	objectBytes = 1 + 32 + 8 + 8 + object.DigestSize + 4
	pendingSize = 64 << 10
)

// OpenIndex opens, or creates, the index in directory dir for objects stored
// as o says. It returns [ErrBusy] if somebody else has it open. The caller
// closes it after the runs that use it.
func OpenIndex(dir string, o Options) (*Index, error) {
	x := &Index{key: keyOf(o)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	c := o.Chunking
	name := filepath.Join(dir, fmt.Sprintf("%s-%s-%d-%d-%d.index", o.Compression, o.Algorithm, c.Min, c.Avg, c.Max))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 -- the operator's directory
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if err := x.open(f); err != nil {
		return nil, errors.Join(fmt.Errorf("open index %s: %w", name, err), f.Close())
	}
	return x, nil
}

func (x *Index) open(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w; wait for it, or use another directory", ErrBusy)
	} else if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return err
	}
	good := x.load(b)
	if err := f.Truncate(int64(good)); err != nil {
		return err
	}
	if _, err := f.Seek(int64(good), io.SeekStart); err != nil {
		return err
	}
	if good == 0 {
		x.pending = x.header()
	}
	x.file = f
	return nil
}

// Close writes what is pending, releases the lock, and returns the first
// error of any write.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.flush()
	err := x.file.Close()
	if x.err != nil {
		err = x.err
	}
	if err != nil {
		return fmt.Errorf("index %s: %w", x.file.Name(), err)
	}
	return nil
}

// Len returns of how many contents and pieces the index knows the object.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.records)
}

func (x *Index) lookup(id object.ContentID) (record, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r, ok := x.records[id]
	return r, ok
}

// list returns the pieces of a content that was cut, nil for any other.
func (x *Index) list(id object.ContentID) []object.ContentID {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.lists[id]
}

func (x *Index) add(id object.ContentID, r record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.records[id] == r {
		return
	}
	x.records[id] = r
	at := len(x.pending)
	b := append(x.pending, kindObject)
	b = append(b, id[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.size))   // #nosec G115 -- not negative
	b = binary.LittleEndian.AppendUint64(b, uint64(r.stored)) // #nosec G115
	b = append(b, r.hash.Digest[:]...)
	x.append(at, b)
}

// addList remembers the pieces of a content, if there are several.
func (x *Index) addList(id object.ContentID, pieces []*piece) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(pieces) == 0 || x.lists[id] != nil {
		return
	}
	ids := make([]object.ContentID, len(pieces))
	at := len(x.pending)
	b := append(x.pending, kindList)
	b = append(b, id[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pieces))) // #nosec G115 -- far fewer
	for i, p := range pieces {
		ids[i] = p.id
		b = append(b, p.id[:]...)
	}
	x.lists[id] = ids
	x.append(at, b)
}

// append completes the record that begins at at.
func (x *Index) append(at int, b []byte) {
	x.pending = binary.LittleEndian.AppendUint32(b, checksum(b[at:]))
	if len(x.pending) >= pendingSize {
		x.flush()
	}
}

func (x *Index) flush() {
	if _, err := x.file.Write(x.pending); err != nil && x.err == nil {
		x.err = err
	}
	x.pending = x.pending[:0]
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
