package fetch

import (
	"testing"
	"time"
)

// Over any stretch, what is let through is the rate times its length, and a
// burst; time is reckoned, not waited for.
func TestBandwidth(t *testing.T) {
	const rate, piece = 1_000_000, 50_000
	b := NewBandwidth(rate)
	start := time.Unix(1e9, 0)
	now := start
	for n := 1; n <= 200; n++ {
		if wait := b.owe(piece, now); wait > 0 {
			now = now.Add(wait)
		}
		most := now.Sub(start).Seconds()*rate + bandwidthBurst.Seconds()*rate
		if float64(n*piece) > most+1 {
			t.Fatalf("%d bytes after %v", n*piece, now.Sub(start))
		}
	}
	if took := now.Sub(start); took > 10*time.Second {
		t.Errorf("10 MB took %v", took)
	}
	// A pause is not saved up.
	now = now.Add(time.Hour)
	if b.owe(rate/2, now) < 400*time.Millisecond {
		t.Error("an idle hour lets half a second's worth through at once")
	}
	if NewBandwidth(0) != nil {
		t.Error("0 is a limit")
	}
}
