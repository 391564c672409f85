package fetch

import (
	"math"
	"sync"
	"time"
)

// latency is how long a server takes to answer: a moving mean and a moving
// deviation, as TCP estimates round trips.
type latency struct {
	mu        sync.Mutex
	mean, dev float64 // seconds
	answers   int
}

const (
	// hedgeAnswers is how many answers of a server tell what is slow for it.
	hedgeAnswers = 8
	// hedgeLeast keeps scheduling and garbage collection from passing for a
	// slow server.
	hedgeLeast = 20 * time.Millisecond
)

func (l *latency) note(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := d.Seconds()
	if l.answers++; l.answers == 1 {
		l.mean, l.dev = s, s/2
		return
	}
	l.dev += (math.Abs(s-l.mean) - l.dev) / 4
	l.mean += (s - l.mean) / 8
}

// late is the time after which the server is slower than it usually is, 0 while
// too little is known.
func (l *latency) late() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answers < hedgeAnswers {
		return 0
	}
	return max(hedgeLeast, time.Duration((l.mean+4*l.dev)*float64(time.Second)))
}

// usual is the moving mean.
func (l *latency) usual() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.mean * float64(time.Second))
}

// allowance bounds how many second requests are sent in vain: one for ten
// requests, saved up to ten. When everything is slow, twice as many requests
// would make it slower.
type allowance struct {
	mu     sync.Mutex
	tenths int
}

const allowanceMost = 100

func (a *allowance) earn() { a.add(1) }

// back returns what was taken for a request that was not in vain.
func (a *allowance) back() { a.add(10) }

func (a *allowance) add(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tenths = min(a.tenths+n, allowanceMost)
}

func (a *allowance) take() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tenths < 10 {
		return false
	}
	a.tenths -= 10
	return true
}
