package deflate

// parse decides what src becomes and hands it over block by block, the last
// one marked as such.
//
// The decision is zlib's lazy one. At each position the best match is looked
// for, but emitted only one position later, when that one has no longer match;
// if it has, the first byte of the earlier match becomes a literal. All
// positions enter the chains of candidates, those inside a match too.
//
// zlib works in a window of 64 KiB: it fills it, and when fewer than
// minLookahead bytes lie ahead of a position in its upper half, moves that half
// down and refills. Read in place, the input needs none of that, but two traces
// of it are left in the output. Both follow from origin, the index of the
// window's first byte:
//
//   - Candidates at or before origin do not exist. The window's place 0 is also
//     zlib's mark for "none", which is why the first byte of the input is never
//     referred to.
//   - Near the end of the input zlib looks for more before each position, and
//     so slides one byte earlier than it does when the window is full: see
//     slideAt.
//
// A third would be that zlib cannot store a block whose first byte has left the
// window. But such a block is longer than maxDist, and one that long is not
// stored anyway: it has at most maxSymbols symbols. In the fixed codes a
// literal takes at most one bit more than in a stored block, and a match of
// three bytes at least two bits less, a longer one at least seven. So a block
// is stored only if it has two literals for each match, and then stands for no
// more than 5/3 of maxSymbols bytes, which is 27,305.
//
// The amount zlib has read ahead is otherwise invisible: it is at least
// minLookahead, which no match exceeds, or reaches to the end of src.
func (e *encoder) parse(src []byte) {
	var (
		in     = inputOf(src)
		n      = len(src)
		last   = n - minMatch // the last position that has a hash
		hash   uint32
		start  int // where the current block began
		origin int
		slide  = slideAt(origin, n)

		length  = minMatch - 1 // of the match at i-1, less than minMatch if none
		dist    int            // of that match
		pending bool           // the byte at i-1 is not in a symbol yet
	)
	shift := e.begin() // position of src[i] is uint32(i)+shift
	if last >= 0 {
		hash = uint32(src[0])<<hashShift ^ uint32(src[1])
	}
	for i := 0; i < n; {
		if i >= slide {
			origin += windowSize
			slide = slideAt(origin, n)
			shift = e.renumber(uint32(origin)+shift) - uint32(origin)
		}
		for i < min(n, slide) {
			prevLength, prevDist := length, dist
			length = minMatch - 1
			if i <= last {
				t := target{i: i, pos: uint32(i) + shift, ahead: n - i, dist4: windowSize}
				hash = (hash<<hashShift ^ uint32(in.at(i+2))) & hashMask
				t.dist3 = int(e.insert3(hash, t.pos))
				if i < last {
					t.dist4 = int(e.insert4(in.load32(i), t.pos))
				}
				if prevLength < maxLazy && t.dist3 <= maxDist {
					// zlib lets the nearest candidate be one byte further away
					// than the others; if it is, there are no others.
					t.limit = min(i-origin, max(maxDist, t.dist3+1))
					length, dist = e.search(in, &t, prevLength)
				}
			}
			switch {
			case prevLength >= minMatch && length <= prevLength:
				e.block.match(prevLength, prevDist)
				end := i - 1 + prevLength
				for i++; i < min(end, last); i++ {
					hash = (hash<<hashShift ^ uint32(in.at(i+2))) & hashMask
					e.insert3(hash, uint32(i)+shift)
					e.insert4(in.load32(i), uint32(i)+shift)
				}
				i = end
				length, pending = minMatch-1, false
				if e.block.full() {
					e.block.write(src[start:i], false)
					start = i
				}
			case pending:
				e.block.literal(in.at(i - 1))
				if e.block.full() {
					e.block.write(src[start:i], false)
					start = i
				}
				i++
			default:
				pending = true
				i++
			}
		}
	}
	if pending {
		e.block.literal(src[n-1])
	}
	e.block.write(src[start:], true)
	e.next = uint32(n) + shift
}

// slideAt is the position from which on zlib moves a window that begins at
// origin: the first one with fewer than minLookahead bytes ahead of it. With
// 64 KiB in the window that is a position later than where zlib would be ready
// to; at the end of the input, where bytes are always wanting, it is not.
func slideAt(origin, n int) int {
	at := origin + windowSize + maxDist
	if n-origin >= 2*windowSize {
		at++
	}
	return at
}
