package check_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/check"
)

// BenchmarkContent checks, on one processor, files of the sizes of a root file
// system: with bytes that no compression shortens, and with text. The stored
// and the plain bytes per second of processor time are printed.
func BenchmarkContent(b *testing.B) {
	for _, c := range []object.Compression{object.None, object.Zstd, object.Zlib} {
		for _, a := range []object.Algorithm{object.SHAKE128, object.SHA1} {
			for _, text := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/%s/text=%v", c, a, text), func(b *testing.B) {
					s, plain := sizes(b, c, a, text)
					b.ReportAllocs()
					before := processorTime(b)
					var stored int64
					for b.Loop() {
						r, err := check.Run(b.Context(), check.Options{
							Store: s.Store, Workers: 1, TempDir: b.TempDir(), Now: s.Now,
							Found: func(f check.Finding) { b.Error(f) },
						})
						if err != nil {
							b.Fatal(err)
						}
						stored = r.Bytes
					}
					seconds := (processorTime(b) - before) / float64(b.N)
					b.ReportMetric(float64(stored)/1e6/seconds, "MB-stored/cpu-s")
					b.ReportMetric(float64(plain)/1e6/seconds, "MB-plain/cpu-s")
				})
			}
		}
	}
}

// processorTime is what this process has used, in seconds.
func processorTime(b *testing.B) float64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// sizes publishes 1,000 files, most small, and a few large ones.
func sizes(b *testing.B, c object.Compression, a object.Algorithm, text bool) (*testsite.Site, int) {
	b.Helper()
	s := testsite.New(b, publisher.Settings{Compression: c, Algorithm: a})
	rnd := rand.New(rand.NewPCG(1, 2))
	chacha := rand.NewChaCha8([32]byte{})
	words := make([]string, 3000)
	for i := range words {
		words[i] = fmt.Sprintf("%x ", rnd.Uint32()>>rnd.IntN(20))
	}
	var files []testsite.Entry
	total := 0
	for i := range 1000 {
		size := 1 << (8 + rnd.IntN(10))
		if i%50 == 0 {
			size = 5 << 20
		}
		data := make([]byte, 0, size+16)
		if text {
			for len(data) < size {
				data = append(data, words[rnd.IntN(len(words))]...)
			}
		} else {
			data = data[:size]
			chacha.Read(data)
		}
		files = append(files, testsite.File(fmt.Sprintf("d%d/f%d", i%20, i), string(data)))
		total += len(data)
	}
	s.Rootfs("bench", "1", files...)
	return s, total
}
