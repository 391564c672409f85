package ingest_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher/ingest"
)

func TestBuffersStayWithinTheirLimit(t *testing.T) {
	const limit = 1 << 20
	l := ingest.NewLender(limit)
	rng := rand.New(rand.NewPCG(1, 1))
	var lent [][]byte
	var weight int64
	for range 5000 {
		n := 1 << rng.IntN(19)
		if len(lent) > 0 && (weight+int64(max(n, 4096)) > limit || rng.IntN(3) == 0) {
			b := lent[len(lent)-1]
			lent, weight = lent[:len(lent)-1], weight-int64(cap(b))
			l.Put(b)
			continue
		}
		b, err := l.Get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != n || cap(b) != max(n, 4096) {
			t.Fatalf("%d bytes: length %d, capacity %d", n, len(b), cap(b))
		}
		lent, weight = append(lent, b), weight+int64(cap(b))
		if out, kept := l.Held(); out != weight || out+kept > limit {
			t.Fatalf("%d bytes lent, counted as %d, and %d kept", weight, out, kept)
		}
	}
	for _, b := range lent {
		l.Put(b)
	}
	// One larger than all there is waits for everything else to be back.
	b, err := l.Get(t.Context(), 2*limit)
	if err != nil || len(b) != 2*limit {
		t.Fatal(len(b), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Get(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("lent beyond the limit: %v", err)
	}
	l.Put(b)
	if out, kept := l.Held(); out != 0 || kept > limit {
		t.Errorf("%d bytes lent, %d kept after all came back", out, kept)
	}
}
