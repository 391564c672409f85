package objects

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"

	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
)

// numbers counts contents in the order in which they were first looked up, and
// keeps what each number means in a file. A content that is found with another
// size, because one of two trees lies about it, gets another number.
//
// In memory there are 16 bytes for each content at most, whatever the file has.
type numbers struct {
	mu     sync.RWMutex
	file   *os.File
	count  uint32
	slots  []uint64          // open addressing: tag<<32 | number+1, 0 for none
	unkept map[uint32]record // those the disk would not take
	closed bool
}

type record struct {
	id   object.ContentID
	size int64
}

const recordSize = len(object.ContentID{}) + 8

func (r record) put(b *[recordSize]byte) {
	copy(b[:], r.id[:])
	binary.LittleEndian.PutUint64(b[len(r.id):], uint64(r.size)) // #nosec G115 -- read back as written
}

func getRecord(b []byte) record {
	return record{
		object.ContentID(b[:recordSize-8]),
		int64(binary.LittleEndian.Uint64(b[recordSize-8:])), // #nosec G115 -- as written
	}
}

// slot is where to begin looking for r, and tag what a slot of it holds besides
// its number. Both are digits of a digest, and need no hashing.
func (r record) slot() uint32 { return binary.LittleEndian.Uint32(r.id[:]) }

func (r record) tag() uint64 {
	return uint64(binary.LittleEndian.Uint32(r.id[4:])) << 32
}

func openNumbers(path string, keep bool) (*numbers, error) {
	if !keep {
		// Not truncated: a connection before this one may have it open.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 -- our own directory
	if err != nil {
		return nil, err
	}
	n := &numbers{file: f, slots: make([]uint64, 1024), unkept: map[uint32]record{}}
	if err := n.load(); err != nil {
		f.Close() //nolint:errcheck // the first error counts
		return nil, err
	}
	return n, nil
}

// load learns what an earlier process wrote. An end cut short was never handed
// out.
func (n *numbers) load() error {
	buf := make([]byte, 1024*recordSize)
	for off := int64(0); ; {
		got, err := n.file.ReadAt(buf, off)
		for b := buf[:got-got%recordSize]; len(b) > 0; b = b[recordSize:] {
			n.insert(getRecord(b))
		}
		off += int64(got)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// insert gives r the next number in memory.
func (n *numbers) insert(r record) uint32 {
	if 2*int(n.count) >= len(n.slots) {
		n.grow()
	}
	number := n.count
	n.count++
	place(n.slots, r.slot(), r.tag()|uint64(number+1))
	return number
}

func place(slots []uint64, at uint32, value uint64) {
	mask := uint32(len(slots) - 1) // #nosec G115 -- a power of two below 1<<32
	for at &= mask; slots[at] != 0; at = (at + 1) & mask {
	}
	slots[at] = value
}

// grow doubles the slots. Where a slot's content wants to be is not in it and
// has to be read.
func (n *numbers) grow() {
	slots := make([]uint64, 2*len(n.slots))
	for number := range n.count {
		// A record that cannot be read now is not found again and gets
		// another number; the old one stays what it is.
		if r, err := n.read(number); err == nil {
			place(slots, r.slot(), r.tag()|uint64(number+1))
		}
	}
	n.slots = slots
}

// find returns r's number.
func (n *numbers) find(r record) (uint32, bool) {
	mask := uint32(len(n.slots) - 1) // #nosec G115 -- see place
	for at := r.slot() & mask; n.slots[at] != 0; at = (at + 1) & mask {
		s := n.slots[at]
		if s&^math.MaxUint32 != r.tag() {
			continue
		}
		number := uint32(s) - 1 // #nosec G115 -- the low half
		if got, err := n.read(number); err == nil && got == r {
			return number, true
		}
	}
	return 0, false
}

// of returns the number of a content, the next one if it has none.
func (n *numbers) of(id object.ContentID, size int64) (uint32, error) {
	r := record{id, size}
	n.mu.RLock()
	number, ok := n.find(r)
	n.mu.RUnlock()
	if ok {
		return number, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if number, ok := n.find(r); ok {
		return number, nil
	}
	if n.closed {
		return 0, fs.ErrClosed
	}
	if n.count == math.MaxUint32>>1 {
		return 0, errors.New("more contents than there are node ids")
	}
	var b [recordSize]byte
	r.put(&b)
	if _, err := n.file.WriteAt(b[:], int64(n.count)*int64(recordSize)); err != nil {
		// A full disk must not keep anybody from reading. A process that
		// takes the connection over will not know the number, and its
		// reader gets ESTALE.
		n.unkept[n.count] = r
	}
	return n.insert(r), nil
}

// at returns what a number means; the error wraps view.ErrStale for one that
// was never handed out.
func (n *numbers) at(number uint64) (object.ContentID, int64, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if number >= uint64(n.count) {
		return object.ContentID{}, 0, view.ErrStale
	}
	r, err := n.read(uint32(number)) // #nosec G115 -- below count
	if err != nil {
		return object.ContentID{}, 0, fmt.Errorf("node id %d: %w", number, err)
	}
	return r.id, r.size, nil
}

func (n *numbers) read(number uint32) (record, error) {
	if r, ok := n.unkept[number]; ok {
		return r, nil
	}
	var b [recordSize]byte
	if _, err := n.file.ReadAt(b[:], int64(number)*int64(recordSize)); err != nil {
		return record{}, err
	}
	r := getRecord(b[:])
	if r.id == (object.ContentID{}) { // a hole: see unkept
		return record{}, view.ErrStale
	}
	return r, nil
}

func (n *numbers) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	return n.file.Close()
}
