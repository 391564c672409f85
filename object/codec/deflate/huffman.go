package deflate

import "math/bits"

// An alphabet is one of deflate's three sets of symbols with its rules.
type alphabet struct {
	size  int     // number of symbols
	limit int     // bits of its longest permitted code
	extra []uint8 // extra bits that follow each symbol
	fixed []uint8 // code lengths of the fixed code, nil if it has none
}

const (
	maxSize  = numLitLen
	maxNodes = 2 * maxSize // of a tree, and one place for the heap's index 0
	maxLimit = 15
)

// A code is a Huffman code and the counts it is made from.
type code struct {
	freq   [maxSize]uint32 // how often each symbol occurs; set by the user
	length [maxSize]uint8  // of its code in bits, 0 if it has none
	bits   [maxSize]uint16 // its code, first bit lowest
	last   int             // the highest symbol with a code
}

// A codeBuilder is the scratch memory of build.
//
// Nodes of the tree are numbered: leaves by their symbol, inner nodes from the
// alphabet's size on. In the heap a node is one word, so that comparing words
// compares frequency first and depth second: freq<<16 | depth<<10 | node. A
// block has no more than maxSymbols+1 symbols, so freq needs 15 bits, and no
// tree over so few is deeper than 24.
type codeBuilder struct {
	heap   [maxNodes]uint32 // from index 1 on; the children of k are 2k, 2k+1
	order  [maxNodes]uint16 // nodes in the order they left the heap
	parent [maxNodes]uint16
	depth  [maxNodes]uint8 // code length of each node, the root's is 0
}

const nodeMask = 1<<10 - 1

// build makes c the code that zlib makes of its counts, and returns the bits
// that all its symbols take, their extra bits included, and the bits they take
// in the alphabet's fixed code.
//
// Optimal codes differ in the lengths of single symbols. Which one comes out
// depends on the order of equally frequent nodes, hence on the heap: its
// initial order, the tie-break by depth, and on a full tie the heap's own
// shape.
func (b *codeBuilder) build(c *code, a *alphabet) (own, fixed int) {
	n := 0
	c.last = -1
	for s, f := range c.freq[:a.size] {
		if f != 0 {
			n++
			b.heap[n] = f<<16 | uint32(s)
			c.last = s
		}
	}
	// A code has at least two symbols. One that was added to make it so costs
	// nothing: it is uncounted here and counted below.
	for ; n < 2; n++ {
		s := 0
		if c.last < 2 {
			c.last++
			s = c.last
		}
		c.freq[s] = 1
		b.heap[n+1] = 1<<16 | uint32(s)
		own--
		if a.fixed != nil {
			fixed -= int(a.fixed[s])
		}
	}
	for k := n / 2; k >= 1; k-- {
		b.sift(k, n)
	}
	// order is filled from its end, so that from the front on it lists parents
	// before their children and rare symbols last.
	first := maxNodes
	for node := uint32(a.size); n >= 2; node++ {
		x := b.heap[1]
		b.heap[1] = b.heap[n]
		n--
		b.sift(1, n)
		y := b.heap[1]
		first -= 2
		b.order[first+1] = uint16(x & nodeMask)
		b.order[first] = uint16(y & nodeMask)
		b.parent[x&nodeMask] = uint16(node)
		b.parent[y&nodeMask] = uint16(node)
		deeper := max(x>>10&63, y>>10&63) + 1
		b.heap[1] = (x>>16+y>>16)<<16 | deeper<<10 | node
		b.sift(1, n)
	}
	root := b.heap[1] & nodeMask
	b.depth[root] = 0
	first--
	b.order[first] = uint16(root)
	count := b.assign(c, a, b.order[first:])
	for s, l := range c.length[:c.last+1] {
		f := int(c.freq[s])
		if f == 0 {
			continue
		}
		x := int(a.extra[s])
		own += f * (int(l) + x)
		if a.fixed != nil {
			fixed += f * (int(a.fixed[s]) + x)
		}
	}
	c.number(count)
	return own, fixed
}

// sift moves the heap's k-th of n nodes down to its place. On a tie the left
// child goes up only if strictly smaller than the right one, and a node stays
// above a child that equals it.
func (b *codeBuilder) sift(k, n int) {
	v := b.heap[k]
	for {
		j := 2 * k
		if j > n {
			break
		}
		if j < n && b.heap[j+1]>>10 <= b.heap[j]>>10 {
			j++
		}
		if v>>10 <= b.heap[j]>>10 {
			break
		}
		b.heap[k] = b.heap[j]
		k = j
	}
	b.heap[k] = v
}

// assign gives each symbol its code length and returns how many codes there
// are of each length. Lengths above the limit are cut to it, and then zlib's
// repair follows: while the code is oversubscribed, a leaf of the deepest level
// that has room moves down one level and takes an overlong one beside it. At
// last the lengths are dealt out anew, the longest to the rarest symbols.
func (b *codeBuilder) assign(c *code, a *alphabet, order []uint16) (count [maxLimit + 1]int) {
	clear(c.length[:a.size])
	overflow := 0 // nodes, inner ones too, that were too deep
	for _, node := range order[1:] {
		d := b.depth[b.parent[node]] + 1
		if int(d) > a.limit {
			d = uint8(a.limit)
			overflow++
		}
		b.depth[node] = d
		if int(node) < a.size {
			c.length[node] = d
			count[d]++
		}
	}
	if overflow == 0 {
		return count
	}
	for ; overflow > 0; overflow -= 2 {
		d := a.limit - 1
		for count[d] == 0 {
			d--
		}
		count[d]--
		count[d+1] += 2
		count[a.limit]--
	}
	next := len(order)
	for d := a.limit; d > 0; d-- {
		for left := count[d]; left > 0; {
			next--
			if node := order[next]; int(node) < a.size {
				c.length[node] = uint8(d)
				left--
			}
		}
	}
	return count
}

// number gives each symbol its code: consecutive numbers within a length, in
// the symbols' order (RFC 1951, 3.2.2).
func (c *code) number(count [maxLimit + 1]int) {
	var next [maxLimit + 1]int
	for l := 1; l < maxLimit; l++ {
		next[l+1] = (next[l] + count[l]) << 1
	}
	for s, l := range c.length[:c.last+1] {
		if l != 0 {
			c.bits[s] = bits.Reverse16(uint16(next[l])) >> (16 - l)
			next[l]++
		}
	}
}
