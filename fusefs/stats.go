package fusefs

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// Stats counts what a connection has done since it began.
type Stats struct {
	Requests   uint64 // all but FORGETs and INTERRUPTs
	Forgets    uint64 // messages, each for one or many nodes
	Waiting    uint64 // requests that could not be answered inline
	Interrupts uint64 // requests whose caller gave up
	Abandoned  uint64 // requests answered while their handler was still at it
	Failures   uint64 // requests answered EIO
	Panics     uint64 // handlers that panicked
	Inherited  uint64 // requests that another process had read
}

// Add returns the counts of two connections together.
func (s Stats) Add(o Stats) Stats {
	return Stats{
		Requests:   s.Requests + o.Requests,
		Forgets:    s.Forgets + o.Forgets,
		Waiting:    s.Waiting + o.Waiting,
		Interrupts: s.Interrupts + o.Interrupts,
		Abandoned:  s.Abandoned + o.Abandoned,
		Failures:   s.Failures + o.Failures,
		Panics:     s.Panics + o.Panics,
	}
}

type counters struct {
	requests, forgets, waiting, interrupts, abandoned, failures, panics, inherited atomic.Uint64

	lastLog    atomic.Int64 // UNIX nanoseconds of the last failure logged
	suppressed atomic.Uint64
}

// Stats returns the counts so far.
func (c *Conn) Stats() Stats {
	return Stats{
		Requests:   c.counts.requests.Load(),
		Forgets:    c.counts.forgets.Load(),
		Waiting:    c.counts.waiting.Load(),
		Interrupts: c.counts.interrupts.Load(),
		Abandoned:  c.counts.abandoned.Load(),
		Failures:   c.counts.failures.Load(),
		Panics:     c.counts.panics.Load(),
		Inherited:  c.counts.inherited.Load(),
	}
}

// failed counts a request answered EIO and logs it, one a second at most: a dead
// server makes thousands of them.
func (c *Conn) failed(op uint32, node uint64, err error) {
	c.counts.failures.Add(1)
	now, last := time.Now().UnixNano(), c.counts.lastLog.Load()
	if now-last < int64(time.Second) || !c.counts.lastLog.CompareAndSwap(last, now) {
		c.counts.suppressed.Add(1)
		return
	}
	c.log.Warn("request answered with an I/O error",
		slog.String("op", opName(op)),
		slog.Uint64("node", node),
		slog.Uint64("more", c.counts.suppressed.Swap(0)),
		slog.Any("err", err))
}
