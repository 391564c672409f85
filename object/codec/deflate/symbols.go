package deflate

import "math/bits"

// A symbol is what the parser decided on: a literal's byte, or in the upper 16
// bits a match's distance (1 to maxDist) and in the lower its length less
// minMatch. Literals have distance 0.
type symbol uint32

func literal(b byte) symbol { return symbol(b) }

func match(length, dist int) symbol { return symbol(dist<<16 | (length - minMatch)) }

func (s symbol) dist() int   { return int(s >> 16) }
func (s symbol) value() byte { return byte(s) }

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

// distSymbols maps a distance less one to its symbol: the first half below 256,
// the second by its upper bits, since from there on a symbol covers 128
// distances or more.
var distSymbols = func() (t [512]uint8) {
	for d := range 256 {
		t[d] = uint8(logSymbol(d, 1))
		t[256+d] = uint8(logSymbol(d<<7, 1))
	}
	return t
}()

func distSymbol(dist int) uint8 {
	d := dist - 1
	if d < 256 {
		return distSymbols[d]
	}
	return distSymbols[(256+d>>7)&511]
}

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
