package deflate_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
)

// Of zlib's window.
const (
	window  = 32768
	maxDist = window - 262
)

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rng.Read(b) //nolint:errcheck // never fails
	return b
}

// sparse returns noise of 200 values. Repeats are as rare in it as in noise, but
// its blocks are not stored, so that what matches were chosen shows.
func sparse(seed uint64, n int) []byte {
	b := noise(seed, n)
	for i, v := range b {
		b[i] = byte(int(v) * 200 >> 8)
	}
	return b
}

// skewed returns n bytes of which each is one of the first k values, the
// smaller ones more often than others.
func skewed(seed uint64, n, k int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(min(int(r.ExpFloat64()*float64(k)/4), k-1))
	}
	return b
}

func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	words := make([][]byte, 400)
	for i := range words {
		words[i] = make([]byte, 1+r.IntN(9))
		for j := range words[i] {
			words[i][j] = byte('a' + min(int(r.ExpFloat64()*6), 25))
		}
	}
	b := make([]byte, 0, n+10)
	for len(b) < n {
		b = append(b, words[min(int(r.ExpFloat64()*60), 399)]...)
		b = append(b, " \n\t,"[r.IntN(4)])
	}
	return b[:n]
}

// copies returns noise in which pieces of the last 30 KiB are repeated, of
// lengths that length chooses. A piece is followed by a byte that its source
// is not followed by, so that the match ends where the piece does.
func copies(seed uint64, n int, length func(*rand.Rand) int) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	b := noise(seed, 17000)
	next := -1 // what must not come now
	for len(b) < n {
		from := len(b) - 1 - r.IntN(min(len(b)-1, 30000))
		if int(b[from]) == next {
			continue
		}
		l := min(length(r), len(b)-from-1)
		next = int(b[from+l])
		b = append(b, b[from:from+l]...)
	}
	return b
}

// hash is zlib's, of three bytes.
func hash(b []byte) int { return (int(b[0])<<10 ^ int(b[1])<<5 ^ int(b[2])) & 0x7fff }

// unlike returns n bytes of which the first three have a hash that occurs
// nowhere in b, so that the next place they occur is the nearest candidate.
func unlike(b []byte, n int) []byte {
	var used [1 << 15]bool
	for i := range len(b) - 2 {
		used[hash(b[i:])] = true
	}
	for seed := uint64(100); ; seed++ {
		if v := sparse(seed, n); !used[hash(v)] {
			return v
		}
	}
}

// crafted yields inputs that lead zlib into its corners.
func crafted() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, group := range []func(func(string, []byte) bool) bool{
			short, uniform, boundaries, budgets, blockEnds, slides, forms, codes,
		} {
			if !group(yield) {
				return
			}
		}
	}
}

func short(yield func(string, []byte) bool) bool {
	long := text(1, 700)
	random := noise(1, 700)
	few := skewed(1, 700, 3)
	for n := range 601 {
		for name, b := range map[string][]byte{"text": long, "noise": random, "few": few, "zeros": make([]byte, 700)} {
			if !yield(fmt.Sprintf("%s of %d", name, n), b[:n]) {
				return false
			}
		}
	}
	return true
}

func uniform(yield func(string, []byte) bool) bool {
	for _, n := range []int{1000, window, 65535, 65536, 100_000, 1 << 20} {
		for name, b := range map[string][]byte{
			"zeros":       make([]byte, n),
			"ones":        bytes.Repeat([]byte{255}, n),
			"noise":       noise(2, n),
			"text":        text(2, n),
			"few":         skewed(2, n, 2),
			"some":        skewed(3, n, 20),
			"alternating": bytes.Repeat([]byte{0xaa, 0x55}, n/2),
		} {
			if !yield(fmt.Sprintf("%s of %d", name, n), b) {
				return false
			}
		}
	}
	for _, period := range []int{2, 3, 4, 5, 7, 8, 9, 16, 31, 100, 257, 258, 259, 260, 300, 1000, 4095, 4096, 4097, 30000} {
		if !yield(fmt.Sprintf("period %d", period), bytes.Repeat(noise(4, period), 1+150_000/period)) {
			return false
		}
		almost := bytes.Repeat(noise(4, period), 1+150_000/period)
		r := rand.New(rand.NewPCG(5, uint64(period)))
		for range 600 {
			almost[r.IntN(len(almost))]++
		}
		if !yield(fmt.Sprintf("almost period %d", period), almost) {
			return false
		}
	}
	return true
}

// boundaries repeats something at the distances where candidates end, begin to
// be too far or meet the beginning of the input or of a window.
func boundaries(yield func(string, []byte) bool) bool {
	for _, at := range []int{0, 1, 5, window - 1, window, window + 1} {
		for _, near := range []int{4096, maxDist, window} {
			for d := near - 3; d <= near+3; d++ {
				for _, length := range []int{3, 4, 258} {
					b := sparse(uint64(6+length), at+d+length)
					piece := unlike(b, length)
					copy(b[at:], piece)
					copy(b[at+d:], piece)
					if length == 4 {
						b = append(b, sparse(7, 600)...)
					}
					if !yield(fmt.Sprintf("%d bytes from %d at %d", length, at, d), b) {
						return false
					}
				}
			}
		}
	}
	return true
}

// budgets puts a match just within or beyond the number of candidates that are
// looked at, behind others that share no more than its hash of three bytes.
func budgets(yield func(string, []byte) bool) bool {
	triple := []byte{0x41, 0x42, 0x43}
	var colliders [][]byte
	for v := range 1 << 24 {
		if b := []byte{byte(v >> 16), byte(v >> 8), byte(v)}; hash(b) == hash(triple) && !bytes.Equal(b, triple) {
			colliders = append(colliders, b)
		}
	}
	for _, length := range []int{3, 4, 12} {
		for _, n := range []int{30, 31, 32, 33, 126, 127, 128, 129} {
			repeated := append(bytes.Clone(triple), sparse(40, length-3)...)
			b := append(text(40, 3000), repeated...)
			for i, c := range colliders[:n] {
				b = append(append(b, c...), byte(200+i%50), byte(255-i/50))
			}
			b = append(append(b, repeated...), text(41, 3000)...)
			if !yield(fmt.Sprintf("%d bytes behind %d colliding", length, n), b) {
				return false
			}
		}
	}
	return true
}

// blockEnds has inputs whose symbols fill a block but for a few, or just so.
func blockEnds(yield func(string, []byte) bool) bool {
	random, base := sparse(8, 3*16383+10), text(8, 80_040)
	for blocks := 1; blocks <= 3; blocks++ {
		for n := blocks*16383 - 4; n <= blocks*16383+4; n++ {
			if !yield(fmt.Sprintf("about %d literals", n), random[:n]) {
				return false
			}
			if !yield(fmt.Sprintf("about %d literals and a match", n), append(bytes.Clone(random[:n]), random[n-50:n]...)) {
				return false
			}
			if !yield(fmt.Sprintf("about %d literals and zeros", n), append(bytes.Clone(random[:n]), make([]byte, 1000)...)) {
				return false
			}
		}
	}
	for n := 80_000; n < 80_040; n++ {
		if !yield(fmt.Sprintf("text of %d", n), base[:n]) {
			return false
		}
	}
	return true
}

// slides ends the input, or has a match of the longest distance, around the
// positions where the window slides. The candidate at the new window's first
// byte exists just until it does.
func slides(yield func(string, []byte) bool) bool {
	base, random := text(9, 6*window), sparse(10, 4*window)
	piece := unlike(random, 11)
	for k := 1; k <= 2; k++ {
		slide := k*window + maxDist
		for _, past := range []int{-1, 0, 1, 4, 5, 100, 255, 260, 261, 262, 263, 300} {
			n := slide + past
			if !yield(fmt.Sprintf("text that ends at %d", n), base[:n]) {
				return false
			}
			for from := k*window - 1; from <= k*window+1; from++ {
				for to := from + maxDist - 1; to <= min(from+maxDist+1, n-3); to++ {
					b := bytes.Clone(random[:n])
					copy(b[from:], piece)
					copy(b[to:], piece)
					if !yield(fmt.Sprintf("a match from %d to %d of %d", from, to, n), b) {
						return false
					}
				}
			}
		}
	}
	return true
}

// forms has neighbouring blocks that are stored, fixed and of own codes.
func forms(yield func(string, []byte) bool) bool {
	var all []byte
	for i, n := range []int{40_000, 100, 70_000, 16_383, 5, 200_000, 33_000} {
		all = append(all, noise(uint64(11+i), n)...)
		if !yield(fmt.Sprintf("noise at the end of %d", len(all)), all) {
			return false
		}
		all = append(all, text(uint64(11+i), n)...)
		if !yield(fmt.Sprintf("text at the end of %d", len(all)), all) {
			return false
		}
	}
	// Noise with so little to find that storing is close to coding.
	for k := 0; k < 60; k += 3 {
		b := noise(uint64(20+k), 100_000)
		for i := range b {
			b[i] = min(b[i], byte(255-k))
		}
		if !yield(fmt.Sprintf("noise of %d values", 256-k), b) {
			return false
		}
		// Short matches: many bytes to few symbols, and those long.
		b = copies(uint64(20+k), 250_000, func(r *rand.Rand) int { return 3 + r.IntN(1+k/20) })
		if !yield(fmt.Sprintf("copies of 3 to %d", 3+k/20), b) {
			return false
		}
	}
	return true
}

// codes has frequencies that make a Huffman tree deeper than permitted, in
// blocks of matches alone: of literals there are too many kinds, and repeats
// among them become matches.
func codes(yield func(string, []byte) bool) bool {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 4))
		var steps []step
		for _, v := range deep(r, 16, 5) {
			least, _ := spread(16-v, 4)
			steps = append(steps, step{length: 2 + least, least: 300, most: 30_000})
		}
		if !yield(fmt.Sprintf("deep lengths, seed %d", seed), pieces(r, steps)) {
			return false
		}
		steps = nil
		for _, v := range deep(r, 19, 0) {
			least, most := spread(11+v, 2)
			steps = append(steps, step{length: 4, least: least, most: min(most, maxDist)})
		}
		if !yield(fmt.Sprintf("deep distances, seed %d", seed), pieces(r, steps)) {
			return false
		}
		var b []byte
		for _, v := range deep(r, 20, 0) {
			b = append(b, byte(v))
		}
		if !yield(fmt.Sprintf("deep literals, seed %d", seed), b) {
			return false
		}
	}
	return true
}

// deep returns numbers below k as often as makes a Huffman tree deep: each more
// often than all before the last together, by slack, so that they join the tree
// one by one even if slack others come in between.
func deep(r *rand.Rand, k, slack int) []int {
	var all []int
	last, before := 1, 0 // how often the last number, and all before it
	for v := range k {
		for range last {
			all = append(all, v)
		}
		last, before = before+1+slack, before+last
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// spread returns the least and the greatest value of the s-th symbol where
// values from 1 on have each its own for the first two times k, and then k
// symbols share each power of two: of distances if k is 2, and of lengths less
// 2 if it is 4.
func spread(s, k int) (least, most int) {
	if s < k {
		return 1 + s, 1 + s
	}
	size := 1 << (s/k - 1)
	least = 1 + (k+s%k)*size
	return least, least + size - 1
}

// A step asks for a match of a length at a distance within bounds.
type step struct{ length, least, most int }

// pieces returns noise that fills two blocks, and then the matches asked for
// and little else: each repeats something that occurs only once nearby, and is
// followed by another byte than that is. Where nothing of the kind is found,
// the step is left out.
func pieces(r *rand.Rand, steps []step) []byte {
	four := func(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
	b := noise(r.Uint64(), 2*16383)
	nearest := map[uint32]int{} // by four bytes
	seen, not := 0, -1
	for _, s := range steps {
		for ; seen+4 <= len(b); seen++ {
			nearest[four(b[seen:])] = seen
		}
		for range 300 {
			from := len(b) - s.least - r.IntN(s.most-s.least+1)
			if from < 1 || from+max(s.length, 4)+1 > len(b) || int(b[from]) == not || nearest[four(b[from:])] != from {
				continue
			}
			not = int(b[from+s.length])
			b = append(b, b[from:from+s.length]...)
			break
		}
	}
	return b
}
