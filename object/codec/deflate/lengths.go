package deflate

// Code lengths are themselves written in a code, runs of them shortened by
// three symbols (RFC 1951, 3.2.7).
const (
	repeatPrevious  = 16 // the length before, 3 to 6 times
	repeatZero      = 17 // 3 to 10 times
	repeatZeroOften = 18 // 11 to 138 times
)

var lengthExtra = [numLength]uint8{repeatPrevious: 2, repeatZero: 3, repeatZeroOften: 7}

// lengthOrder is the order in which the lengths of that code are written:
// what is rarely used comes last, where it can be left out.
var lengthOrder = [numLength]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

var lengthAlphabet = alphabet{size: numLength, limit: 7, extra: lengthExtra[:]}

// A run is a symbol of the code for code lengths and its extra bits.
type run struct{ symbol, extra uint8 }

// lengthCode describes the two codes of a block in its header.
type lengthCode struct {
	code
	runs    [numLitLen + numDist]run
	n       int // runs in use
	written int // lengths of this code itself that are written
}

// build prepares the description and returns its size in bits.
func (c *lengthCode) build(b *codeBuilder, litlen, dist *code) int {
	clear(c.freq[:numLength])
	c.n = 0
	c.scan(litlen.length[:litlen.last+1])
	c.scan(dist.length[:dist.last+1])
	size, _ := b.build(&c.code, &lengthAlphabet)
	c.written = numLength
	for c.written > 4 && c.length[lengthOrder[c.written-1]] == 0 {
		c.written--
	}
	return 5 + 5 + 4 + 3*c.written + size
}

// scan splits lengths into runs. Other than the format would allow, none
// reaches from one alphabet into the other.
func (c *lengthCode) scan(lengths []uint8) {
	for len(lengths) > 0 {
		l, n := lengths[0], 1
		for n < len(lengths) && lengths[n] == l {
			n++
		}
		lengths = lengths[n:]
		if l == 0 {
			c.zeros(n)
		} else {
			c.repeat(l, n)
		}
	}
}

func (c *lengthCode) zeros(n int) {
	for n > 0 {
		part := min(n, 138)
		n -= part
		switch {
		case part < 3:
			c.add(0, 0, part)
		case part <= 10:
			c.add(repeatZero, part-3, 1)
		default:
			c.add(repeatZeroOften, part-11, 1)
		}
	}
}

// repeat splits n times the length l. The first part spells the length out, so
// it may be one longer than those that follow, and has to be to be worth it.
func (c *lengthCode) repeat(l uint8, n int) {
	for spelled := 1; n > 0; spelled = 0 {
		part := min(n, 6+spelled)
		n -= part
		if part < 3+spelled {
			c.add(l, 0, part)
			continue
		}
		c.add(l, 0, spelled)
		c.add(repeatPrevious, part-spelled-3, 1)
	}
}

func (c *lengthCode) add(symbol uint8, extra, times int) {
	c.freq[symbol] += uint32(times)
	for range times {
		c.runs[c.n] = run{symbol, uint8(extra)}
		c.n++
	}
}

func (c *lengthCode) write(w *bitWriter, litlen, dist *code) {
	w.put(uint64(litlen.last+1-257), 5)
	w.put(uint64(dist.last+1-1), 5)
	w.put(uint64(c.written-4), 4)
	for _, s := range lengthOrder[:c.written] {
		w.put(uint64(c.length[s]), 3)
	}
	for _, r := range c.runs[:c.n] {
		w.put(uint64(c.bits[r.symbol]), uint(c.length[r.symbol]))
		w.put(uint64(r.extra), uint(lengthExtra[r.symbol]))
	}
}
