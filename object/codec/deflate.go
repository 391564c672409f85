package codec

import (
	"fmt"
	"unsafe"

	"modernc.org/libc"
	z "modernc.org/z/lib"
)

// deflate calls zlib's own compress2, transpiled to Go, because no other
// encoder arrives at the same bytes. Its memory lies outside Go's heap, hence
// the copies.
func deflate(dst, src []byte) ([]byte, error) {
	tls := libc.NewTLS()
	defer tls.Close()
	bound := z.XcompressBound(tls, z.ULong(len(src)))
	const word = 8
	mem := libc.Xmalloc(tls, libc.Tsize_t(word+uint64(bound)+uint64(len(src))))
	if mem == 0 {
		return nil, fmt.Errorf("deflate %d bytes: out of memory", len(src))
	}
	defer libc.Xfree(tls, mem)
	out, in := mem+word, mem+word+uintptr(bound)
	length := (*z.ULong)(at(mem))
	*length = bound
	if len(src) > 0 {
		copy(unsafe.Slice((*byte)(at(in)), len(src)), src)
	}
	if rc := z.Xcompress2(tls, out, mem, in, z.ULong(len(src)), z.Z_DEFAULT_COMPRESSION); rc != z.Z_OK {
		return nil, fmt.Errorf("deflate %d bytes: zlib error %d", len(src), rc)
	}
	return append(dst, unsafe.Slice((*byte)(at(out)), int(*length))...), nil
}

// at turns an address of the transpiled zlib's memory into a pointer. That
// memory is never moved nor collected by Go.
func at(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }
