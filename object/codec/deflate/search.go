package deflate

import "math/bits"

// search looks for a match at i that is longer than length, of at most ahead
// bytes (what is left of the input), and returns the longest and its distance,
// of equally long ones the nearest. If there is none it returns length or less.
//
// dist is the distance of the nearest candidate, pos the low bits of i's
// position; candidates further on are less than limit away.
//
// A candidate that is longer than the best so far agrees with it in its last
// bytes: comparing four there refuses nearly all that are not. (zlib compares
// two, and the first two. What is refused does not show, since each candidate
// counts towards maxChain however it ends.)
func (e *encoder) search(in input, i, ahead, dist, length, limit int, pos uint16) (int, int) {
	chain := maxChain
	if length >= goodLength {
		chain /= 4
	}
	most := min(ahead, maxMatch)
	enough := min(ahead, niceLength)
	best := 0
	at := pos - uint16(dist)

	if length < minMatch {
		// The first candidate has to agree in three bytes. This loop finds it.
		if ahead < 4 {
			for {
				if in.at(i) == in.at(i-dist) && in.at(i+1) == in.at(i-dist+1) && in.at(i+2) == in.at(i-dist+2) {
					return minMatch, dist
				}
				at = e.prev[at]
				dist = int(pos - at)
				if chain--; dist >= limit || chain == 0 {
					return 0, 0
				}
			}
		}
		want := in.load32(i)
		for (in.load32(i-dist)^want)<<8 != 0 {
			at = e.prev[at]
			dist = int(pos - at)
			if chain--; dist >= limit || chain == 0 {
				return 0, 0
			}
		}
		length = in.common(i-dist, i, most)
		best = dist
		if length >= enough {
			return length, best
		}
		at = e.prev[at]
		dist = int(pos - at)
		if chain--; dist >= limit || chain == 0 {
			return length, best
		}
	}
	tail := i + length - 3
	want := in.load32(tail)
	for {
		if in.load32(tail-dist) == want {
			if l := in.common(i-dist, i, most); l > length {
				length, best = l, dist
				if length >= enough {
					break
				}
				tail = i + length - 3
				want = in.load32(tail)
			}
		}
		at = e.prev[at]
		dist = int(pos - at)
		if chain--; dist >= limit || chain == 0 {
			break
		}
	}
	return length, best
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
