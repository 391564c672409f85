package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// progressLine keeps one line of a terminal up to date. On anything but a
// terminal it writes nothing.
type progressLine struct {
	out  *os.File // nil if it is no terminal
	text func() string
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex // held while somebody writes
}

// newProgressLine starts a line that shows text, which must be safe to call at
// any time, until end.
func newProgressLine(w io.Writer, text func() string) *progressLine {
	p := &progressLine{text: text, stop: make(chan struct{})}
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			p.out = f
		}
	}
	if p.out == nil {
		return p
	}
	p.wg.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				p.mu.Lock()
				fmt.Fprintf(p.out, "\r\x1b[K%s", p.text())
				p.mu.Unlock()
			}
		}
	})
	return p
}

// pause lets f write lines of its own.
func (p *progressLine) pause(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	f()
}

// end removes the line.
func (p *progressLine) end() {
	close(p.stop)
	p.wg.Wait()
	p.pause(func() {})
}
