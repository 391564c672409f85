package deflate

import "math/bits"

// chains know where in the window a string of bytes occurred before.
//
// zlib has one chain of positions for each 15-bit hash of three bytes, and a
// search follows it for at most so many steps, whatever hash collisions and
// hopeless candidates they are spent on. Since that limit decides which match
// is found, it has to be kept exactly; but most steps need not be made. A match
// of four bytes or more, which is what nearly every search is for, is found in
// a second set of chains by a hash of four bytes, several times shorter. How
// many steps away a candidate is in zlib's chain is then the difference of two
// ordinals: every position is numbered within its chain of three.
//
// A position is that of a byte of the input plus a number the call began with.
// The arrays indexed by positions hold the last window only.
type chains struct {
	// head3 and head4 hold for each hash the last position that had it.
	head3 [1 << hashBits]uint32
	head4 [1 << hashBits]uint32
	// link3 holds for each position the one before it with the same hash (its
	// low 16 bits; here and in link4 one further away than a window is taken
	// to be a window away, which is too far for everyone who follows it, so
	// that a sliding window needs no upkeep) and in the upper half its ordinal.
	link3 [windowSize]uint32
	// link4 has room for two windows to be indexed by 16 bits without a mask,
	// which would lie in the path that limits the speed of a search.
	link4 [1 << 16]uint16
	// next is above every position in head3 and head4, so that a call which
	// starts there takes what earlier calls left for too far away.
	next uint32
}

// renumberAt keeps positions well inside 32 bits.
const renumberAt = 1 << 30

// begin returns the position of a new input's first byte.
func (c *chains) begin() uint32 { return c.renumber(c.next) }

// renumber lowers all positions if origin has become too large, and returns
// what origin is then. Positions before origin may become equal to it; neither
// are candidates.
func (c *chains) renumber(origin uint32) uint32 {
	if origin < renumberAt {
		return origin
	}
	cut := origin &^ 0xffff // keeps the low bits that the links know
	for i := range c.head3 {
		c.head3[i] -= min(c.head3[i], cut)
		c.head4[i] -= min(c.head4[i], cut)
	}
	return origin - cut
}

// insert3 makes pos the newest position of its hash of three bytes and returns
// its distance from the one before.
func (c *chains) insert3(hash, pos uint32) (dist uint32) {
	h := &c.head3[hash&hashMask]
	last := *h
	*h = pos
	dist = pos - last
	// If last is too far away, the ordinal is some other position's. That is
	// as good a number to begin with as any.
	ordinal := c.link3[last&windowMask]&^0xffff + 1<<16
	c.link3[pos&windowMask] = ordinal | (pos-min(dist, windowSize))&0xffff
	return dist
}

// insert4 does the same for a hash of four bytes, given as a little-endian
// number.
func (c *chains) insert4(four, pos uint32) (dist uint32) {
	h := &c.head4[four*0x9e3779b1>>(32-hashBits)]
	dist = pos - *h
	*h = pos
	c.link4[uint16(pos)] = uint16(pos - min(dist, windowSize))
	return dist
}

// A target is a position of the input for which a match is looked for.
type target struct {
	i     int    // index of its byte
	pos   uint32 // its position
	ahead int    // bytes from there to the input's end
	limit int    // candidates are less far away
	dist3 int    // of the nearest one with the same hash of three bytes
	dist4 int    // of four
}

// checkEvery is how many steps a search makes between two looks at whether
// zlib's would have ended already.
const checkEvery = 16

// search looks for a match that is longer than length, and returns the longest
// and its distance; of equally long ones, the nearest. If there is none, the
// length returned is 0.
//
// A candidate that is longer than the best so far agrees with it in its last
// bytes: comparing four there refuses nearly all that are not.
func (c *chains) search(in input, t *target, length int) (int, int) {
	budget := uint32(maxChain)
	if length >= goodLength {
		budget /= 4
	}
	least := length
	length = max(length, minMatch)
	best := 0
	if dist := t.dist4; dist < t.limit && length < t.ahead {
		most, enough := min(t.ahead, maxMatch), min(t.ahead, niceLength)
		i, limit := t.i, t.limit
		pos := uint16(t.pos)
		at := pos - uint16(dist)
		tail := i + length - 3
		want := in.load32(tail)
		check := checkEvery
		for {
			if in.load32(tail-dist) == want {
				if l := in.common(i-dist, i, most); l > length {
					if c.steps(pos, at) > budget {
						break
					}
					length, best = l, dist
					if length >= enough {
						break
					}
					tail = i + length - 3
					want = in.load32(tail)
				}
			}
			at = c.link4[at]
			dist = int(pos - at)
			if dist >= limit {
				break
			}
			if check--; check == 0 {
				check = checkEvery
				if in.load32(i-dist) == in.load32(i) && c.steps(pos, at) > budget {
					break
				}
			}
		}
	}
	if best != 0 {
		return length, best
	}
	if least < minMatch {
		return c.search3(in, t)
	}
	return 0, 0
}

// search3 looks for a match of just three bytes, knowing that there is none of
// more. Those further away than tooFar are not wanted.
func (c *chains) search3(in input, t *target) (int, int) {
	i := t.i
	limit := min(t.limit, tooFar+1)
	dist := t.dist3
	for range maxChain {
		if dist >= limit {
			break
		}
		if in.at(i) == in.at(i-dist) && in.at(i+1) == in.at(i-dist+1) && in.at(i+2) == in.at(i-dist+2) {
			return minMatch, dist
		}
		dist = int(uint16(t.pos) - uint16(c.link3[(t.pos-uint32(dist))&windowMask]))
	}
	return 0, 0
}

// steps is the number of steps from pos to the candidate at in zlib's chain.
// Both must have the same hash of three bytes and lie in one window.
func (c *chains) steps(pos, at uint16) uint32 {
	return uint32(uint16(c.link3[pos&windowMask]>>16) - uint16(c.link3[at&windowMask]>>16))
}

// common is the number of bytes, at most most, that are equal from a and from
// b on. a must be less than b and b+most within the input.
func (in input) common(a, b, most int) int {
	n := 0
	for n+8 <= most {
		if x := in.load64(a+n) ^ in.load64(b+n); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		n += 8
	}
	for n < most && in.at(a+n) == in.at(b+n) {
		n++
	}
	return n
}
