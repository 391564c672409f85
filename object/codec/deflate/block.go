package deflate

// The block types of RFC 1951, 3.2.3. Their lowest bit marks the last block.
const (
	blockStored = 0 << 1
	blockFixed  = 1 << 1
	blockOwn    = 2 << 1
)

// A blockWriter writes blocks in the form that zlib finds shortest.
type blockWriter struct {
	bits    bitWriter
	builder codeBuilder
	litlen  code
	dist    code
	lengths lengthCode
	own     emitTable
}

// write writes a block of symbols that stand for the bytes plain, which are at
// hand to be stored as they are if storable says so. If last, it is the
// stream's last block and ends on a byte.
func (b *blockWriter) write(symbols []symbol, plain []byte, storable, last bool) {
	b.count(symbols)
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
	case storable && len(plain)+4 <= size:
		w.reserve(len(plain) + 6)
		w.put(blockStored|final, 3)
		w.align()
		n := uint64(len(plain)) // below 64 Ki, for it lies within zlib's window
		w.put(n|(n^0xffff)<<16, 32)
		w.buf = append(w.buf, plain...)
	case size == fixed:
		w.reserve(size + 1)
		w.put(blockFixed|final, 3)
		w.emit(symbols, fixedTable)
	default:
		w.reserve(size + 1)
		w.put(blockOwn|final, 3)
		b.lengths.write(w, &b.litlen, &b.dist)
		b.own.fill(&b.litlen, &b.dist)
		w.emit(symbols, &b.own)
	}
	if last {
		w.align()
	}
}

// count sets the frequencies of the symbols.
func (b *blockWriter) count(symbols []symbol) {
	clear(b.litlen.freq[:])
	clear(b.dist.freq[:])
	b.litlen.freq[endOfBlock] = 1
	for _, s := range symbols {
		if d := s.dist(); d != 0 {
			b.litlen.freq[257+int(lengthSymbols[s.value()])]++
			b.dist.freq[distSymbol(d)]++
		} else {
			b.litlen.freq[s.value()]++
		}
	}
}
