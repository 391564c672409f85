package image_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/internal/teststratum"
)

// BenchmarkAcquire makes a tree of 44,000 entries ready on a cell that has
// never seen it, on one that has its image, and on one that has it mounted.
// e2e's BenchmarkImageTier times the whole way, through the daemon's socket.
func BenchmarkAcquire(b *testing.B) {
	s := teststratum.New(b, "image.example.org")
	files := map[string][]byte{}
	for i := range 43_000 {
		files[fmt.Sprintf("d%02d/s%03d/file-%05d", i%20, i/40, i)] = fmt.Appendf(nil, "content of file %d\n", i)
	}
	id := treeID(b, s.Files("tree", "1", files).Tree)
	var cpu time.Duration
	acquire := func(b *testing.B, h *host) {
		h.start()
		r := h.open(s)
		before := processorTime(b)
		b.StartTimer()
		_, err := h.tier.Acquire(b.Context(), r, id)
		b.StopTimer()
		cpu += processorTime(b) - before
		b.ReportMetric(float64(cpu.Microseconds())/1000/float64(b.N), "cpu-ms/op")
		check(b, err)
		h.tier.Release(r, id)
		h.stop()
	}
	b.Run("never-seen", func(b *testing.B) {
		b.StopTimer()
		cpu = 0
		for range b.N {
			acquire(b, newHost(b))
		}
	})
	b.Run("image-cached", func(b *testing.B) {
		h := newHost(b)
		b.StopTimer()
		acquire(b, h)
		b.ResetTimer()
		b.StopTimer()
		cpu = 0
		for range b.N {
			acquire(b, h)
		}
	})
	b.Run("mounted", func(b *testing.B) {
		h := newHost(b)
		h.start()
		r := h.open(s)
		_, err := h.tier.Acquire(b.Context(), r, id)
		check(b, err)
		b.ResetTimer()
		for b.Loop() {
			_, err := h.tier.Acquire(b.Context(), r, id)
			check(b, err)
			h.tier.Release(r, id)
		}
		h.tier.Release(r, id)
		h.stop()
	})
}

// processorTime is this process's, the server's included; on a busy machine it
// says more than the clock.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var r unix.Rusage
	check(b, unix.Getrusage(unix.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
