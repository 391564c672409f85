package deflate

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Positions come near their end only behind a gigabyte of input, so the encoder
// is put there: before, at and within the input, to be renumbered at its start
// and at a slide of the window.
func TestRenumber(t *testing.T) {
	r := rand.New(rand.NewPCG(60, 1))
	src := make([]byte, 400_000)
	for i := range src {
		if i > 40_000 && r.IntN(8) > 0 {
			src[i] = src[i-1-i%39_000]
		} else {
			src[i] = byte(r.IntN(256))
		}
	}
	want := new(encoder).append(nil, src)
	for _, before := range []uint32{0, 1, 1000, 32767, 32768, 65535, 65536, 65537, 100_000, 333_333, 400_001} {
		e := new(encoder)
		e.next = renumberAt - before
		for call := range 3 {
			if !bytes.Equal(e.append(nil, src), want) {
				t.Errorf("%d before the end, call %d: a different result", before, call)
			}
		}
		if most := uint32(3*len(src) + 1<<16); e.next > most {
			t.Errorf("%d before the end: positions up to %d, want them renumbered below %d", before, e.next, most)
		}
	}
}
