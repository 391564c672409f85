package deflate

// begin returns the position of the input's first byte.
func (e *encoder) begin() uint32 { return e.renumber(e.next) }

// renumber lowers all positions if origin has become too large, and returns
// what origin is then. Positions before origin may become equal to it; neither
// are candidates.
func (e *encoder) renumber(origin uint32) uint32 {
	if origin < renumberAt {
		return origin
	}
	cut := origin &^ 0xffff // keeps the low 16 bits that prev knows
	for i, pos := range e.head {
		e.head[i] = pos - min(pos, cut)
	}
	return origin - cut
}

// insert makes pos the newest position of its hash and returns its distance
// from the one before.
func (e *encoder) insert(hash, pos uint32) (dist uint32) {
	h := &e.head[hash&hashMask]
	dist = pos - *h
	*h = pos
	e.prev[uint16(pos)] = uint16(pos - min(dist, windowSize))
	return dist
}
