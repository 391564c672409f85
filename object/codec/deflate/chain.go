package deflate

// chains know where in the window a string of bytes occurred before.
//
// zlib has one chain of positions for each 15-bit hash of three bytes, and a
// search follows it for at most so many steps, whatever hash collisions and
// hopeless candidates they are spent on. Since that budget decides which match
// is found, it has to be kept exactly; but most of the steps need not be made.
// Nearly every search is for a match of four bytes or more, and those are found
// in a second set of chains, by a hash of four bytes. How many steps away a
// candidate is in zlib's chain is then the difference of two ordinals: every
// position is numbered within its chain of three.
//
// A position is that of a byte of the input plus a number the call began with.
// The arrays indexed by positions hold the last window only.
type chains struct {
	// head3 and head4 hold for each hash the last position that had it.
	head3 [1 << hashBits]uint32
	head4 [1 << hashBits]uint32
	// link3 and link4 hold for each position, in the lower 16 bits, the one
	// before it with the same hash. One that is further away than a window is
	// taken to be a window away, which is too far for whoever follows the
	// link: so a window that slides needs no upkeep. The upper half in link3
	// is the position's ordinal.
	link3 [windowSize]uint32
	link4 [windowSize]uint16
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

func hash4(four uint32) uint32 { return four * 0x9e3779b1 >> (32 - hashBits) }

// insert4 does the same for a hash of four bytes, given as a little-endian
// number.
func (c *chains) insert4(four, pos uint32) (dist uint32) {
	h := &c.head4[hash4(four)]
	dist = pos - *h
	*h = pos
	c.link4[pos&windowMask] = uint16(pos - min(dist, windowSize))
	return dist
}

// nearest4 returns how far back from t the nearest place lies that may have
// the given four bytes at the offset off.
func (c *chains) nearest4(t *target, off int, four uint32) (dist int) {
	return int(t.pos + uint32(off) - c.head4[hash4(four)])
}

// next3 returns the distance from t of the candidate that follows, in zlib's
// chain, the one at dist.
func (c *chains) next3(t *target, dist int) int {
	return int(uint16(t.pos) - uint16(c.link3[(t.pos-uint32(dist))&windowMask]))
}

// steps is the number of steps from pos to the candidate at in zlib's chain.
// Both must have the same hash of three bytes and lie in one window.
func (c *chains) steps(pos, at uint16) int {
	return int(uint16(c.link3[pos&windowMask]>>16) - uint16(c.link3[at&windowMask]>>16))
}
