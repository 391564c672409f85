package deflate

import (
	"encoding/binary"
	"unsafe"
)

// input is a slice without its bounds checks, which cost the search more than
// the comparing. Whoever calls its methods makes sure that what is read lies
// within the slice; each caller says by what. The race detector's checkptr
// instrumentation verifies it in the tests.
type input struct {
	p unsafe.Pointer // keeps the slice's memory alive
}

func inputOf(b []byte) input { return input{unsafe.Pointer(unsafe.SliceData(b))} }

func (in input) at(i int) byte { return *(*byte)(unsafe.Add(in.p, i)) }

func (in input) load32(i int) uint32 {
	return binary.LittleEndian.Uint32((*[4]byte)(unsafe.Add(in.p, i))[:])
}

func (in input) load64(i int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(in.p, i))[:])
}
