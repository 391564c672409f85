package deflate_test

import (
	"encoding/binary"
	"testing"
)

// FuzzAgainstC takes the input as it is, and as a recipe for a longer one that
// reaches what a short one cannot: other blocks, other windows.
func FuzzAgainstC(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("hello\n"))
	f.Add([]byte("\x00\xff\xff\x01\xff\xff\x02\xfa\x80\x03\x40\xff\xff\x04\x80"))
	f.Add(noise(50, 200))
	f.Add(skewed(50, 300, 5))
	f.Add(text(50, 500))
	f.Fuzz(func(t *testing.T, data []byte) {
		compare(t, transpiled, "as it is", data)
		compare(t, transpiled, "as a recipe", cook(data))
	})
}

// cook makes an input of up to 300,000 bytes of a recipe: steps of an opcode and
// what it takes.
func cook(recipe []byte) []byte {
	const most = 300_000
	var b []byte
	number := func(n int) int {
		var v [4]byte
		m := copy(v[:n], recipe)
		recipe = recipe[m:]
		return int(binary.LittleEndian.Uint32(v[:]))
	}
	for len(recipe) > 0 && len(b) < most {
		switch op := number(1); op % 6 {
		case 0: // noise
			b = append(b, noise(uint64(op), number(2))...)
		case 1: // text
			b = append(b, text(uint64(op), number(2))...)
		case 2: // one byte many times
			v := byte(number(1))
			for range number(2) {
				b = append(b, v)
			}
		case 3: // a copy from anywhere before, which may overlap itself
			dist, n := number(2), number(1)
			if len(b) == 0 {
				continue
			}
			dist %= len(b)
			for range n {
				b = append(b, b[len(b)-1-dist])
			}
		case 4: // few values, skewed
			b = append(b, skewed(uint64(op), number(2), 2+op/6)...)
		case 5: // the recipe's own bytes
			n := min(number(1), len(recipe))
			b = append(b, recipe[:n]...)
			recipe = recipe[n:]
		}
	}
	return b[:min(len(b), most)]
}
