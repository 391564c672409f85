package deflate

import "math/bits"

// A target is a position of the input for which a match is looked for.
type target struct {
	i     int    // index of its byte
	pos   uint32 // its position
	ahead int    // bytes from there to the input's end
	limit int    // candidates are less far away
	dist3 int    // of the nearest one with the same hash of three bytes
	dist4 int    // of four
}

// maxSteps is how many candidates search looks at before it leaves the rest to
// searchAll: long walks do not become short ones by its means, and hostile
// input could make them a window long.
const maxSteps = 64

// search looks for a match that is longer than length, and returns the longest
// and its distance; of equally long ones, the nearest. If there is none, the
// length returned is 0.
//
// What it returns is what zlib finds on its walk along the chain of three. It
// is enough to meet, in the same order, those candidates of that walk that are
// longer than the best before them, and to stop where that walk stops. Such a
// candidate agrees with the target in its first four bytes, but also in the
// four bytes that end with the first one beyond the best length. So it is in
// the chains of both, and search walks along the one whose next entry is
// further away.
func (c *chains) search(in input, t *target, length int) (int, int) {
	budget := maxChain
	if length >= goodLength {
		budget /= 4
	}
	fresh := length < minMatch
	length = max(length, minMatch)
	best, dist := 0, t.dist4
	if dist >= t.limit || length >= t.ahead {
		// There are no candidates, or no bytes for a longer match.
		if fresh {
			return c.search3(in, t)
		}
		return 0, 0
	}

	i, limit, pos := t.i, t.limit, uint16(t.pos)
	most, enough := min(t.ahead, maxMatch), min(t.ahead, niceLength)
	// The walk is along the chain of the four bytes that lie off bytes behind
	// i. A candidate is compared first where that chain says nothing of it: at
	// its end while the chain is that of its beginning, and conversely.
	off := length - minMatch
	from, probe := pos, i+off
	want := in.load32(probe)
	if dist >= off && off > 0 {
		if far := c.nearest4(t, off, want); far > dist {
			from, probe, dist = pos+uint16(off), i, far
			want = in.load32(i)
			if dist >= limit {
				return 0, 0
			}
		}
	}
	at := from - uint16(dist)
	left := maxSteps
	for ; left > 0; left-- {
		longer := false
		if in.load32(probe-dist) == want {
			if l := in.common(i-dist, i, most); l > length {
				if c.steps(pos, pos-uint16(dist)) > budget {
					break
				}
				length, best, longer = l, dist, true
				if length >= enough {
					break
				}
			}
		}
		at = c.link4[at&windowMask]
		dist = int(from - at)
		if dist >= limit {
			break
		}
		if !longer {
			continue
		}
		off = length - minMatch
		probe = i + off
		want = in.load32(probe)
		// Positions beyond i are in no chain yet, so the end's chain is
		// complete only from this distance on.
		if dist < off {
			continue
		}
		if far := c.nearest4(t, off, want); far > dist {
			from, probe, dist = pos+uint16(off), i, far
			want = in.load32(i)
			if dist >= limit {
				break
			}
			at = from - uint16(dist)
		}
	}
	if left == 0 {
		length, best = c.searchAll(in, t, length, best, dist, budget)
	}
	switch {
	case best != 0:
		return length, best
	case fresh:
		return c.search3(in, t)
	}
	return 0, 0
}

// searchAll goes on with a search as zlib does it. All candidates nearer than
// after have been looked at.
func (c *chains) searchAll(in input, t *target, length, best, after, budget int) (int, int) {
	most, enough := min(t.ahead, maxMatch), min(t.ahead, niceLength)
	tail := t.i + length - minMatch
	want := in.load32(tail)
	dist := t.dist3
	for range budget {
		if dist >= t.limit {
			break
		}
		if dist >= after && in.load32(tail-dist) == want {
			if l := in.common(t.i-dist, t.i, most); l > length {
				length, best = l, dist
				if length >= enough {
					break
				}
				tail = t.i + length - minMatch
				want = in.load32(tail)
			}
		}
		dist = c.next3(t, dist)
	}
	return length, best
}

// search3 looks for a match of just three bytes where there is none of more.
// If it is further away than tooFar it is not wanted.
func (c *chains) search3(in input, t *target) (int, int) {
	i, limit, dist := t.i, min(t.limit, tooFar+1), t.dist3
	for range maxChain {
		if dist >= limit {
			break
		}
		if in.at(i) == in.at(i-dist) && in.at(i+1) == in.at(i-dist+1) && in.at(i+2) == in.at(i-dist+2) {
			return minMatch, dist
		}
		dist = c.next3(t, dist)
	}
	return 0, 0
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
