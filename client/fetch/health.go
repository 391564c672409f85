package fetch

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// health remembers for how long a server or proxy is better passed over. It
// only ever reorders: what is down is tried last, never not at all, since an
// old verdict must not turn a read into an error.
type health struct {
	until atomic.Int64 // UNIX nanoseconds; 0 is healthy
}

func (h *health) fail(now time.Time, rest time.Duration) { h.until.Store(now.Add(rest).UnixNano()) }

func (h *health) ok() {
	if h.until.Load() != 0 {
		h.until.Store(0)
	}
}

func (h *health) down(now time.Time) bool { return h.until.Load() > now.UnixNano() }

// rest is when what is down is healthy again; zero if it is.
func (h *health) rest(now time.Time) time.Time {
	if !h.down(now) {
		return time.Time{}
	}
	return time.Unix(0, h.until.Load())
}

// byHealth moves what is down behind what is not: of the down ones, first
// whoever was given up longest ago. The order among the healthy is kept.
func byHealth[T any](list []T, of func(T) *health, now time.Time) []T {
	healthy := true
	for _, x := range list {
		healthy = healthy && !of(x).down(now)
	}
	if !healthy {
		slices.SortStableFunc(list, func(a, b T) int {
			return cmp.Compare(rank(of(a), now), rank(of(b), now))
		})
	}
	return list
}

func rank(h *health, now time.Time) int64 {
	if until := h.until.Load(); until > now.UnixNano() {
		return until
	}
	return 0
}
