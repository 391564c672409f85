package deflate

import "math/bits"

// A symbol is what the parser decided on. Below 256 it is a literal; otherwise
// its lower 16 bits are 256 plus a match's length less minMatch, its upper ones
// the distance.
type symbol uint32

func (s symbol) dist() uint { return uint(s >> 16) }

const (
	endOfBlock = 256
	// numLitLen does not count the two symbols of the fixed code that no
	// block may use: zlib's trees have no leaf for them.
	numLitLen = 286
	numDist   = 30
	numLength = 19 // symbols of the code that code lengths are written in
)

// lengthSymbols maps a match's length less minMatch to its symbol, less the
// first one (257). The longest match has a symbol of its own, without extra
// bits (RFC 1951, 3.2.5).
var lengthSymbols = func() (t [256]uint8) {
	for l := range 255 {
		t[l] = uint8(logSymbol(l, 2))
	}
	t[255] = 28
	return t
}()

// noDist is the symbol of a literal's distance, which takes no bits.
const noDist = 31

// distSymbols maps a distance to its symbol, 0 to noDist. From 257 on, where a
// symbol covers 128 distances or more, the index is distIndex.
var distSymbols = func() (t [512]uint8) {
	t[0] = noDist
	for d := range windowSize {
		t[distIndex(uint(d+1))] = uint8(logSymbol(d, 1))
	}
	return t
}()

func distIndex(dist uint) uint {
	if dist > 256 {
		dist = 256 + (dist-1)>>7
	}
	return dist & 511
}

func distSymbol(dist uint) uint8 { return distSymbols[distIndex(dist)] }

// logSymbol is deflate's one rule for lengths and distances: v's highest 1+n
// bits pick the symbol, those below follow as extra bits.
func logSymbol(v int, n uint) int {
	extra := bits.Len(uint(v)) - 1 - int(n)
	if extra <= 0 {
		return v
	}
	return extra<<n + v>>uint(extra)
}

// logBase is the least value of a symbol and its number of extra bits, the
// inverse of logSymbol.
func logBase(s int, n uint) (base int, extra uint) {
	if s>>n < 2 {
		return s, 0
	}
	extra = uint(s>>n - 1)
	return (s - int(extra)<<n) << extra, extra
}
