package deflate

import (
	"encoding/binary"
	"slices"
)

// A bitWriter appends bits to buf, the first of them in the lowest bit of a
// byte (RFC 1951, 3.1.1). At most seven bits wait in acc between two calls.
type bitWriter struct {
	buf []byte
	acc uint64
	n   uint // bits in acc; those above are zero
}

func (w *bitWriter) reset(buf []byte) { *w = bitWriter{buf: buf} }

// slack is what put may write behind the end of buf.
const slack = 8

// reserve makes room for n more bytes and for put's slack behind them.
func (w *bitWriter) reserve(n int) { w.buf = slices.Grow(w.buf, n+slack+1) }

// put appends the low n bits of v, n at most 56; the others must be zero. The
// room must have been reserved.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc |= v << (w.n & 63)
	w.n += n
	end := len(w.buf)
	binary.LittleEndian.PutUint64(w.buf[end:end+slack], w.acc)
	w.buf = w.buf[:end+int(w.n>>3)]
	w.acc >>= w.n & 56
	w.n &= 7
}

// align fills the last byte with zero bits.
func (w *bitWriter) align() {
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
}
