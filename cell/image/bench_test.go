package image_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/internal/teststratum"
)

// BenchmarkAcquire makes a tree of 44,000 entries ready on a cell that has
// never seen it, on one that has its image, and on one that has it mounted; and
// the same as a directory whose catalogs are all there is.
// e2e's BenchmarkImageTier times the whole way, through the daemon's socket.
func BenchmarkAcquire(b *testing.B) {
	s := teststratum.New(b, "image.example.org")
	files := map[string][]byte{}
	for i := range 43_000 {
		files[fmt.Sprintf("d%02d/s%03d/file-%05d", i%20, i/40, i)] = fmt.Appendf(nil, "content of file %d\n", i)
	}
	id := treeID(b, s.Files("tree", "1", files).Tree)
	b.Run("tree", func(b *testing.B) {
		benchmarkAcquire(b, s, func(h *host, r *client.Repository) (imagemeta.TreeID, error) {
			_, err := h.tier.Acquire(b.Context(), r, id)
			return id, err
		})
	})
	b.Run("directory", func(b *testing.B) {
		benchmarkAcquire(b, s, func(h *host, r *client.Repository) (imagemeta.TreeID, error) {
			c, err := compile(b, r, "/rootfs/tree/1", "")
			if err == nil {
				_, err = h.tier.AcquireDirectory(b.Context(), r, c)
			}
			return c.ID, err
		})
	})
}

func benchmarkAcquire(b *testing.B, s *teststratum.Stratum, ready func(*host, *client.Repository) (imagemeta.TreeID, error)) {
	var cpu time.Duration
	acquire := func(b *testing.B, h *host) {
		h.start()
		r := h.open(s)
		before := processorTime(b)
		b.StartTimer()
		id, err := ready(h, r)
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
		id, err := ready(h, r)
		check(b, err)
		b.ResetTimer()
		for b.Loop() {
			_, err := ready(h, r)
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
