package deflate

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
