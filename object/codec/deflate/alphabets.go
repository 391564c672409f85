package deflate

// litlenAlphabet is that of literals, the end of a block, and lengths
// (RFC 1951, 3.2.5 and 3.2.6).
var litlenAlphabet = alphabet{
	size: numLitLen, limit: maxLimit,
	extra: func() []uint8 {
		t := make([]uint8, numLitLen)
		for s := range numLitLen - 257 - 1 {
			_, extra := logBase(s, 2)
			t[257+s] = uint8(extra)
		}
		return t
	}(),
	fixed: func() []uint8 {
		t := make([]uint8, numLitLen)
		for s := range t {
			switch {
			case s < 144:
				t[s] = 8
			case s < 256:
				t[s] = 9
			case s < 280:
				t[s] = 7
			default:
				t[s] = 8
			}
		}
		return t
	}(),
}

// distAlphabet is that of distances.
var distAlphabet = alphabet{
	size: numDist, limit: maxLimit,
	extra: func() []uint8 {
		t := make([]uint8, numDist)
		for s := range t {
			_, extra := logBase(s, 1)
			t[s] = uint8(extra)
		}
		return t
	}(),
	fixed: func() []uint8 {
		t := make([]uint8, numDist)
		for s := range t {
			t[s] = 5
		}
		return t
	}(),
}
