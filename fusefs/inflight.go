package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrInFlight reports memory of requests in flight that is not laid out as this
// program has it.
var ErrInFlight = errors.New("requests in flight are not kept as expected")

// The memory of requests in flight. It may be shared with the process that
// comes after this one, of another release perhaps, so its layout is a
// format:
//
//	page 0        magic
//	then          maxReaders buffers of readBuffer bytes, one for each reader
//	then          inFlightSlots slots of slotSize bytes
//
// The kernel writes a request straight into a reader's buffer; one that is not
// answered at once is copied into a slot. A buffer or slot holds a request in
// flight if the first word of the request, its length, is not 0. It is set last
// and cleared once the answer is out, so a process may die at any moment: the
// worst that comes of it is a second answer, which the kernel refuses, since no
// request's number is used twice.
const (
	inFlightMagic  = "rootstock requests in flight 1\n"
	inFlightPage   = 4096
	maxReaders     = 8
	inFlightSlots  = 8192
	slotSize       = 1280 // the longest request that may wait is a LOOKUP, 1065 bytes
	inFlightSize   = inFlightPage + maxReaders*readBuffer + inFlightSlots*slotSize
	inFlightSealed = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
)

// NewInFlight returns the memory for one connection's requests in flight, for
// [Options].InFlight of every process that serves the connection. Pages that no
// request ever lay in take no memory.
func NewInFlight() (*os.File, error) {
	fd, err := unix.MemfdCreate("rootstock-requests", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory of requests in flight: %w", err)
	}
	f := os.NewFile(uintptr(fd), "requests in flight")
	err = f.Truncate(inFlightSize)
	if err == nil {
		_, err = f.WriteAt([]byte(inFlightMagic), 0)
	}
	if err == nil { // whoever maps it must not be cut short
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, inFlightSealed)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("memory of requests in flight: %w", err), f.Close())
	}
	return f, nil
}

// inFlight is that memory, mapped.
type inFlight struct {
	mem  []byte
	left []int // slots with requests of a process before this one

	mu   sync.Mutex // guards free; taken last
	room sync.Cond
	free []int
}

// mapInFlight maps f, or memory of this process's own if f is nil.
func mapInFlight(f *os.File) (*inFlight, error) {
	t := &inFlight{free: make([]int, 0, inFlightSlots)}
	t.room.L = &t.mu
	fd, flags := -1, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE
	if f != nil {
		seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(int(f.Fd()), &st)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInFlight, err)
		}
		if seals&inFlightSealed != inFlightSealed || st.Size != inFlightSize {
			return nil, fmt.Errorf("%w: %d bytes, seals %#x", ErrInFlight, st.Size, seals)
		}
		fd, flags = int(f.Fd()), unix.MAP_SHARED
	}
	var err error
	if t.mem, err = unix.Mmap(fd, 0, inFlightSize, unix.PROT_READ|unix.PROT_WRITE, flags); err != nil {
		return nil, fmt.Errorf("map requests in flight: %w", err)
	}
	if f != nil && string(t.mem[:len(inFlightMagic)]) != inFlightMagic {
		return nil, errors.Join(fmt.Errorf("%w: of another release", ErrInFlight), t.unmap())
	}
	// A kill that meets the kernel while it copies a request into memory
	// that is not there yet would be an error for the one who asks.
	for at := inFlightPage; at < inFlightPage+maxReaders*readBuffer; at += inFlightPage {
		atomic.AddUint32(word(t.mem[at:]), 0)
	}
	for at := inFlightSlots - 1; at >= 0; at-- {
		if f != nil && inUse(t.slot(at)) {
			t.left = append(t.left, at)
		} else {
			t.free = append(t.free, at)
		}
	}
	return t, nil
}

func (t *inFlight) unmap() error {
	if err := unix.Munmap(t.mem); err != nil {
		return fmt.Errorf("unmap requests in flight: %w", err)
	}
	return nil
}

func word(p []byte) *uint32 { return (*uint32)(unsafe.Pointer(unsafe.SliceData(p))) }

// inUse reports whether a buffer or slot holds a request in flight.
func inUse(p []byte) bool { return atomic.LoadUint32(word(p)) != 0 }

// answered makes a buffer or slot, or a request in it, one that is not in flight.
func answered(p []byte) { atomic.StoreUint32(word(p), 0) }

// reader is the buffer of the i-th reader.
func (t *inFlight) reader(i int) []byte {
	at := inFlightPage + i*readBuffer
	return t.mem[at : at+readBuffer : at+readBuffer]
}

func (t *inFlight) slot(i int) []byte {
	at := inFlightPage + maxReaders*readBuffer + i*slotSize
	return t.mem[at : at+slotSize : at+slotSize]
}

// requestIn is the request in a buffer or slot. It reports false for what cannot
// be one.
func requestIn(p []byte) ([]byte, bool) {
	n := binary.NativeEndian.Uint32(p)
	if n < uint32(inHeaderSize) || int64(n) > int64(len(p)) {
		return nil, false
	}
	return p[:n], true
}

// held is a request that is being answered, in a slot until it is released.
type held struct {
	in   []byte
	slot int // -1 for none
}

// hold copies a request into a slot, which release gives back. It waits for a
// free one. One too long for a slot is not kept.
func (t *inFlight) hold(in []byte) held {
	if len(in) > slotSize {
		return held{append([]byte(nil), in...), -1}
	}
	t.mu.Lock()
	for len(t.free) == 0 {
		t.room.Wait()
	}
	at := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	t.mu.Unlock()
	s := t.slot(at)
	copy(s[4:], in[4:])
	atomic.StoreUint32(word(s), uint32(len(in))) // #nosec G115 -- at most slotSize
	return held{s[:len(in)], at}
}

// release gives a slot back once nobody looks at it. A request that was not
// answered stays: it is for the next process.
func (t *inFlight) release(h held) {
	if h.slot < 0 || inUse(h.in) {
		return
	}
	t.mu.Lock()
	t.free = append(t.free, h.slot)
	t.mu.Unlock()
	t.room.Signal()
}

// inherit returns the requests in flight of a process before this one, each in
// a slot of its own, and leaves the readers' buffers empty.
func (t *inFlight) inherit() (list []held) {
	for _, at := range t.left {
		if in, ok := requestIn(t.slot(at)); ok {
			list = append(list, held{in, at})
		} else {
			t.drop(at)
		}
	}
	t.left = nil
	for i := range maxReaders {
		b := t.reader(i)
		if in, ok := requestIn(b); ok && inUse(b) {
			list = append(list, t.hold(in))
		}
		answered(b)
	}
	return list
}

// forget drops the requests of a process before this one.
func (t *inFlight) forget() {
	for _, at := range t.left {
		t.drop(at)
	}
	t.left = nil
	for i := range maxReaders {
		answered(t.reader(i))
	}
}

func (t *inFlight) drop(at int) {
	answered(t.slot(at))
	t.release(held{t.slot(at), at})
}
