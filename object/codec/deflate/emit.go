package deflate

import "encoding/binary"

// An emitTable holds a block's codes the way emit needs them: what is put for
// a symbol in the lower 24 bits, the number of bits in the upper 8.
type emitTable struct {
	literal [endOfBlock + 1]uint32
	length  [256]uint32 // by length less minMatch, extra bits included
	dist    [32]uint32  // by symbol, without extra bits
}

// fill makes t the table of two codes.
func (t *emitTable) fill(litlen, dist *code) {
	for s := range t.literal {
		t.literal[s] = litlen.entry(s)
	}
	for l := range t.length {
		s := int(lengthSymbols[l])
		e := litlen.entry(257 + s)
		if l < 255 {
			base, extra := logBase(s, 2)
			n := e >> 24
			e += uint32(l-base)<<n | uint32(extra)<<24
		}
		t.length[l] = e
	}
	for s := range numDist {
		t.dist[s] = dist.entry(s)
	}
}

// entry returns what is put for a symbol; it is zero bits if the block has no
// such symbol.
func (c *code) entry(s int) uint32 {
	l := c.length[s]
	if l == 0 {
		return 0
	}
	return uint32(c.bits[s]) | uint32(l)<<24
}

// fixedTable holds the fixed codes (RFC 1951, 3.2.6).
var fixedTable = func() *emitTable {
	var litlen, dist code
	litlen.last, dist.last = numLitLen-1, numDist-1
	copy(litlen.length[:], litlenAlphabet.fixed)
	copy(dist.length[:], distAlphabet.fixed)
	// With the two symbols of each that never occur.
	litlen.number([maxLimit + 1]int{7: 24, 8: 144 + 8, 9: 112})
	dist.number([maxLimit + 1]int{5: 32})
	t := new(emitTable)
	t.fill(&litlen, &dist)
	return t
}()

// A distTail says what follows the symbol of a distance: so many bits of the
// distance less base.
type distTail struct {
	base  uint16
	extra uint8
}

var distTails = func() (t [32]distTail) {
	for s := range numDist {
		base, extra := logBase(s, 1)
		t[s] = distTail{uint16(base + 1), uint8(extra)}
	}
	return t
}()

// emit writes symbols and the end of the block. The room must have been
// reserved. It is put, with its state in registers.
func (w *bitWriter) emit(symbols []symbol, t *emitTable) {
	buf, end := w.buf[:cap(w.buf)], len(w.buf)
	acc, n := w.acc, w.n
	for _, s := range symbols {
		if d := s.dist(); d == 0 {
			e := t.literal[s.value()]
			acc |= uint64(e&0xffffff) << (n & 63)
			n += uint(e >> 24)
		} else {
			e := t.length[s.value()]
			acc |= uint64(e&0xffffff) << (n & 63)
			n += uint(e >> 24)
			ds := distSymbol(d) & 31
			tail := distTails[ds]
			e = t.dist[ds]
			acc |= uint64(e&0xffffff) << (n & 63)
			n += uint(e >> 24)
			acc |= uint64(d-int(tail.base)) << (n & 63)
			n += uint(tail.extra)
		}
		// At most 7+15+5+15+13 = 55 bits.
		binary.LittleEndian.PutUint64(buf[end:], acc)
		end += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	w.buf, w.acc, w.n = buf[:end], acc, n
	e := t.literal[endOfBlock]
	w.put(uint64(e&0xffffff), uint(e>>24))
}
