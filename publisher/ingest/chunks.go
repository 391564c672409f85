package ingest

import (
	"fmt"
	"math"
)

// Chunking says where large contents are cut (CVMFS-FORMAT 4), in bytes. The
// zero value cuts nothing.
type Chunking struct {
	Min int64 // a content of at most this size stays whole
	Avg int64
	Max int64 // no piece is larger
}

// DefaultChunking is that of CernVM-FS.
var DefaultChunking = Chunking{Min: 4 << 20, Avg: 8 << 20, Max: 16 << 20}

const (
	window   = 32      // bytes that decide about a cut, and their smallest distance
	maxPiece = 1 << 30 // a piece is held in memory
)

// Enabled reports whether c cuts at all.
func (c Chunking) Enabled() bool { return c != Chunking{} }

// Check reports whether the sizes are ones the format allows.
func (c Chunking) Check() error {
	if c.Enabled() && (c.Min < window || c.Min >= c.Avg || c.Avg >= c.Max || c.Max > maxPiece) {
		return fmt.Errorf("chunk sizes %d, %d, %d: need %d <= min < avg < max <= %d", c.Min, c.Avg, c.Max, window, maxPiece)
	}
	return nil
}

// Cut returns the length of the first piece of b, which begins where the piece
// before ended and holds either c.Max bytes or all that is left of the
// content. It returns len(b) where nothing has to be cut.
//
// The detector's state is a function of the last 32 bytes only, so it starts
// that far ahead of the first place where a cut may be (CVMFS-FORMAT 4.2).
func (c Chunking) Cut(b []byte) int {
	if !c.Enabled() || int64(len(b)) <= c.Min {
		return len(b)
	}
	from, to := int(c.Min), min(len(b), int(c.Max))
	var x uint32
	for _, v := range b[from-window : from] {
		x = x<<1 ^ uint32(v)
	}
	// |int32(x) - 0x7fffffff| < threshold, of which the smallest integer,
	// whose magnitude wraps to itself, is a case.
	threshold := uint32(math.MaxUint32 / c.Avg) // #nosec G115 -- Avg is at least 33
	low, span := 0x7fffffff-(threshold-1), 2*(threshold-1)
	for i, v := range b[from:to] {
		x = x<<1 ^ uint32(v)
		if x-low <= span || x == math.MaxUint32 {
			return from + i
		}
	}
	return to
}
