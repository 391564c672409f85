package deflate

import "encoding/binary"

// An emitTable holds a block's codes the way emit needs them.
type emitTable struct {
	// litlen has the bits of literals and of matches' lengths, indexed by the
	// lower half of a symbol: in the lower 24 bits what is put, extra bits
	// included, in the upper 8 how many bits that are.
	litlen [512]uint32
	dist   [32]distEntry // by symbol
	end    uint32        // of the block
}

// A distEntry is the code of a distance's symbol, to be followed by the
// distance less base.
type distEntry struct {
	code uint16
	base uint16
	bits uint8 // of the code
	all  uint8 // with the extra bits
}

// fill makes t the table of two codes.
func (t *emitTable) fill(litlen, dist *code) {
	for s := range 256 {
		t.litlen[s] = litlen.entry(s)
	}
	for l := range 256 {
		s := int(lengthSymbols[l])
		e := litlen.entry(257 + s)
		if l < 255 {
			base, extra := logBase(s, 2)
			e += uint32(l-base)<<(e>>24) + uint32(extra)<<24
		}
		t.litlen[256+l] = e
	}
	for s := range numDist {
		base, extra := logBase(s, 1)
		n := dist.length[s]
		t.dist[s] = distEntry{dist.bits[s], uint16(base + 1), n, n + uint8(extra)}
	}
	t.end = litlen.entry(endOfBlock)
}

// entry returns what is put for a symbol.
func (c *code) entry(s int) uint32 { return uint32(c.bits[s]) | uint32(c.length[s])<<24 }

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

// emit writes symbols and the end of the block. The room must have been
// reserved. The loop is [bitWriter.put] with its state in registers, and takes
// literals and matches the same way because it cannot guess which comes next.
func (w *bitWriter) emit(symbols []symbol, t *emitTable) {
	buf, end := w.buf[:cap(w.buf)], len(w.buf)
	acc, n := w.acc, w.n
	for _, s := range symbols {
		e := t.litlen[s&511]
		acc |= uint64(e&0xffffff) << (n & 63)
		n += uint(e >> 24)
		d := &t.dist[distSymbol(s.dist())&31]
		acc |= (uint64(d.code) | uint64(uint16(s.dist())-d.base)<<(d.bits&15)) << (n & 63)
		n += uint(d.all)
		// With the 7 bits from before, at most 7+15+5+15+13.
		binary.LittleEndian.PutUint64(buf[end:], acc)
		end += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	w.buf, w.acc, w.n = buf[:end], acc, n
	w.put(uint64(t.end&0xffffff), uint(t.end>>24))
}
