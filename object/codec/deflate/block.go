package deflate

// The block types of RFC 1951, 3.2.3. Their lowest bit marks the last block.
const (
	blockStored = 0 << 1
	blockFixed  = 1 << 1
	blockOwn    = 2 << 1
)

// A blockWriter collects symbols and writes them as a block, in the form that
// zlib finds shortest.
type blockWriter struct {
	bits    bitWriter
	symbols [maxSymbols + 1]symbol // one more than are used, so that n needs a mask and no check
	n       int
	litlen  code
	dist    code
	lengths lengthCode
	builder codeBuilder
	own     emitTable
}

// reset begins a stream behind buf.
func (b *blockWriter) reset(buf []byte) {
	b.bits.reset(buf)
	b.begin()
}

// begin begins a block.
func (b *blockWriter) begin() {
	b.n = 0
	clear(b.litlen.freq[:])
	clear(b.dist.freq[:])
	b.litlen.freq[endOfBlock] = 1
}

func (b *blockWriter) full() bool { return b.n == maxSymbols }

func (b *blockWriter) literal(v byte) {
	b.symbols[b.n&maxSymbols] = symbol(v)
	b.n++
	b.litlen.freq[v]++
}

func (b *blockWriter) match(length, dist int) {
	l := uint8(length - minMatch)
	b.symbols[b.n&maxSymbols] = symbol(dist<<16 | 256 + int(l))
	b.n++
	b.litlen.freq[257+int(lengthSymbols[l])]++
	b.dist.freq[distSymbol(uint(dist))]++
}

// write writes the block of the symbols collected, which stand for the bytes
// plain, and begins a new one. If last, the stream ends with this block.
func (b *blockWriter) write(plain []byte, last bool) {
	own, fixed := b.builder.build(&b.litlen, &litlenAlphabet)
	ownDist, fixedDist := b.builder.build(&b.dist, &distAlphabet)
	own += ownDist + b.lengths.build(&b.builder, &b.litlen, &b.dist)
	fixed += fixedDist

	// Sizes are compared in whole bytes, and a tie goes to the simpler form.
	// The 4 are a stored block's lengths; what it takes to get to the next
	// byte boundary is not counted.
	own, fixed = (own+3+7)/8, (fixed+3+7)/8
	final := uint64(0)
	if last {
		final = 1
	}
	w := &b.bits
	switch size := min(own, fixed); {
	case len(plain)+4 <= size:
		w.reserve(len(plain) + 6)
		w.put(blockStored|final, 3)
		w.align()
		n := uint64(len(plain)) // fits in 16 bits: see parse
		w.put(n|(n^0xffff)<<16, 32)
		w.buf = append(w.buf, plain...)
	case size == fixed:
		w.reserve(size + 1)
		w.put(blockFixed|final, 3)
		w.emit(b.symbols[:b.n], fixedTable)
	default:
		w.reserve(size + 1)
		w.put(blockOwn|final, 3)
		b.lengths.write(w, &b.litlen, &b.dist)
		b.own.fill(&b.litlen, &b.dist)
		w.emit(b.symbols[:b.n], &b.own)
	}
	if last {
		w.align()
	}
	b.begin()
}
