package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sample is what was known at one time.
type sample struct {
	at          time.Time
	bytes, done int64
}

// rates remembers the samples of the last window, oldest first, and the one
// before.
type rates struct {
	doing   string
	samples []sample
}

func (r *rates) add(now time.Time, s State) {
	if s.Doing != r.doing { // what comes next has a pace of its own
		r.doing, r.samples = s.Doing, r.samples[:0]
	}
	for len(r.samples) > 1 && now.Sub(r.samples[1].at) >= window {
		r.samples = r.samples[1:]
	}
	r.samples = append(r.samples, sample{now, s.Bytes, s.Done})
}

// over is what was done in the window, and in how many seconds.
func (r *rates) over() (bytes, done, seconds float64) {
	if len(r.samples) == 0 {
		return 0, 0, 0
	}
	a, b := r.samples[0], r.samples[len(r.samples)-1]
	return float64(b.bytes - a.bytes), float64(b.done - a.done), b.at.Sub(a.at).Seconds()
}

// bytes is the rate in bytes per second.
func (r *rates) bytes() float64 {
	bytes, _, seconds := r.over()
	if seconds <= 0 {
		return 0
	}
	return max(bytes/seconds, 0)
}

// left is how long what is left takes at the rate of the window, to the second;
// ok is false where nobody can know.
func (r *rates) left(s State) (_ time.Duration, ok bool) {
	_, done, seconds := r.over()
	if s.Total <= 0 || s.Done >= s.Total || done <= 0 || seconds <= 0 {
		return 0, false
	}
	left := float64(s.Total-s.Done) * seconds / done
	if left > (1000 * time.Hour).Seconds() {
		return 0, false
	}
	return time.Duration(left+0.5) * time.Second, true
}

// Size prints bytes for people.
func Size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, exp := float64(n)/unit, 0
	for ; f >= unit && exp < 4; exp++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[exp])
}

// columns asks a terminal how wide it is; ok is false for what is none.
func columns(w io.Writer) (width func() int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return nil, false
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return nil, false
	}
	return func() int {
		size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err != nil || size.Col == 0 {
			return 80
		}
		return int(size.Col)
	}, true
}

// computer is the clock everybody has.
type computer struct{}

func (computer) Now() time.Time { return time.Now() }

func (computer) Tick(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}
