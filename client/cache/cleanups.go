package cache

import (
	"sync"
	"time"
)

// cleanups remembers when room was made, by the hour, for as long as a day.
type cleanups struct {
	mu    sync.Mutex
	hours [24]struct {
		hour int64 // since the epoch
		n    int
	}
}

func (c *cleanups) add(now time.Time) {
	hour := now.Unix() / 3600
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.hours[hour%24]
	if h.hour != hour {
		h.hour, h.n = hour, 0
	}
	h.n++
}

// Cleanups returns how often contents were evicted within the last period, of
// at most a day, to the hour.
func (c *Cache) Cleanups(within time.Duration) int {
	last := c.o.Clock().Unix() / 3600
	first := last - int64(within/time.Hour)
	c.cleanups.mu.Lock()
	defer c.cleanups.mu.Unlock()
	n := 0
	for _, h := range c.cleanups.hours {
		if h.hour > first && h.hour <= last {
			n += h.n
		}
	}
	return n
}
