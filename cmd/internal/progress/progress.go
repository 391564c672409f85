// Package progress tells people, and programs, how far a long run has come: on
// a terminal one line that is drawn again and again, elsewhere a line every ten
// seconds, as text or as JSON.
//
// What runs counts by itself; a [Line] asks it, from a goroutine of its own, and
// works out rate and time left from what it was told before.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// State is how far a run has come.
type State struct {
	Doing string // in one word, such as "publishing"
	// What counts what has been done for people, such as "3 trees"; it may
	// be empty.
	What  string
	Bytes int64 // read, copied or freed so far
	// Done of Total, in any unit, is the share of the work that is done;
	// Total is 0 while nobody knows how much there is.
	Done, Total int64
	// InBytes says that Done and Total are bytes.
	InBytes bool
}

// Options say where and how to tell.
type Options struct {
	// Out gets the lines. It is a terminal if it says so itself: an *os.File.
	Out io.Writer
	// Quiet tells nothing, JSON tells programs.
	Quiet, JSON bool
	// State is asked now and then, by another goroutine.
	State func() State
	// Clock is the time; nil is the computer's.
	Clock Clock
}

// Clock is a clock that ticks.
type Clock interface {
	Now() time.Time
	// Tick ticks every d until stop is called.
	Tick(d time.Duration) (ticks <-chan time.Time, stop func())
}

const (
	redraw = 250 * time.Millisecond // of a line on a terminal
	every  = 10 * time.Second       // of lines elsewhere
	window = 15 * time.Second       // that rates are over
)

// Line shows how far a run has come until End is called. It is for use by
// several goroutines.
type Line struct {
	o     Options
	width func() int // columns of the terminal; nil elsewhere
	stop  chan struct{}
	wg    sync.WaitGroup

	mu    sync.Mutex // held while anybody writes to Out
	drawn bool       // a line stands on the terminal
	rates rates
}

// Start begins to tell.
func Start(o Options) *Line {
	if o.Clock == nil {
		o.Clock = computer{}
	}
	l := &Line{o: o, stop: make(chan struct{})}
	if o.Quiet {
		return l
	}
	period := every
	if w, ok := columns(o.Out); ok && !o.JSON {
		l.width, period = w, redraw
	}
	l.rates.add(o.Clock.Now(), o.State())
	ticks, stop := o.Clock.Tick(period)
	l.wg.Go(func() {
		defer stop()
		for {
			select {
			case <-l.stop:
				return
			case now := <-ticks:
				l.tell(now)
			}
		}
	})
	return l
}

// Pause lets f write lines of its own where Out goes.
func (l *Line) Pause(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	f()
}

// Write writes to Out between two drawings: for logs.
func (l *Line) Write(p []byte) (n int, err error) {
	l.Pause(func() { n, err = l.o.Out.Write(p) })
	return n, err
}

// End removes the line and ends the telling. It may be called again.
func (l *Line) End() {
	select {
	case <-l.stop:
		return
	default:
	}
	close(l.stop)
	l.wg.Wait()
	l.Pause(func() {})
}

func (l *Line) clear() {
	if l.drawn {
		io.WriteString(l.o.Out, "\r\x1b[K") //nolint:errcheck // nobody to tell
		l.drawn = false
	}
}

func (l *Line) tell(now time.Time) {
	s := l.o.State()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rates.add(now, s)
	text := l.text(s)
	switch {
	case l.width != nil:
		if room := l.width() - 1; len(text) > room {
			text = text[:max(room, 0)]
		}
		text, l.drawn = "\r\x1b[K"+text, true
	case l.o.JSON:
		text = l.json(s)
	default:
		text += "\n"
	}
	io.WriteString(l.o.Out, text) //nolint:errcheck // nobody to tell
}

// text is one line for people, in ASCII.
func (l *Line) text(s State) string {
	text := s.Doing
	add := func(sep, format string, args ...any) { text += sep + fmt.Sprintf(format, args...) }
	sep := " "
	if s.What != "" {
		add(sep, "%s", s.What)
		sep = ", "
	}
	switch {
	case s.InBytes && s.Total > 0:
		add(sep, "%s of %s", Size(s.Bytes), Size(s.Total))
		sep = ", "
	case s.Bytes > 0 || s.What == "":
		add(sep, "%s", Size(s.Bytes))
		sep = ", "
	}
	if s.Total > 0 {
		add(" ", "(%d%%)", 100*min(s.Done, s.Total)/s.Total)
	}
	if s.Bytes > 0 {
		add(sep, "%s/s", Size(int64(l.rates.bytes())))
	}
	if left, ok := l.rates.left(s); ok {
		add(", ", "%s left", left)
	}
	return text
}

// json is one line for programs.
func (l *Line) json(s State) string {
	m := struct {
		Type        string   `json:"message_type"`
		Doing       string   `json:"doing"`
		Bytes       int64    `json:"bytes"`
		BytesTotal  *int64   `json:"bytes_total,omitempty"`
		PerSecond   int64    `json:"bytes_per_second"`
		Share       *float64 `json:"share,omitempty"`
		SecondsLeft *int64   `json:"seconds_left,omitempty"`
	}{Type: "progress", Doing: s.Doing, Bytes: s.Bytes, PerSecond: int64(l.rates.bytes())}
	if s.Total > 0 {
		share := float64(min(s.Done, s.Total)) / float64(s.Total)
		m.Share = &share
		if s.InBytes {
			m.BytesTotal = &s.Total
		}
	}
	if left, ok := l.rates.left(s); ok {
		seconds := int64(left / time.Second)
		m.SecondsLeft = &seconds
	}
	b, err := json.Marshal(m)
	if err != nil {
		return ""
	}
	return string(b) + "\n"
}
