package serve

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// flushAfter is how long a line of the access log may wait.
const flushAfter = time.Second

// maxLogged bounds what of a request's path and headers is logged, in bytes
// each.
const maxLogged = 512

// AccessLog writes a line for each request in the "combined" format that web
// servers have, with the milliseconds it took at the end. Lines are written
// together, within a second.
type AccessLog struct {
	mu     sync.Mutex
	w      *bufio.Writer
	log    *slog.Logger
	timer  *time.Timer // nil while nothing waits
	failed bool
	line1  []byte // under work
}

// NewAccessLog writes to w, which the caller closes after Flush. The first
// failure is logged to log.
func NewAccessLog(w io.Writer, log *slog.Logger) *AccessLog {
	return &AccessLog{w: bufio.NewWriterSize(w, 64<<10), log: log}
}

// Flush writes what waits.
func (a *AccessLog) Flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flush()
}

func (a *AccessLog) flush() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	if err := a.w.Flush(); err != nil && !a.failed {
		a.failed = true
		a.log.Error("access log is not written any more", "error", err)
	}
}

func (a *AccessLog) line(r *http.Request, s *seen, at time.Time, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed {
		return
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = "-"
	}
	b := append(a.line1[:0], host...)
	b = append(b, " - "...)
	b = append(b, user(r)...)
	b = append(b, " ["...)
	b = at.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, "] "...)
	b = quoted(b, r.Method+" "+cut(r.RequestURI)+" "+r.Proto)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(s.code()), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, s.bytes, 10)
	b = append(b, ' ')
	b = quoted(b, cut(r.Referer()))
	b = append(b, ' ')
	b = quoted(b, cut(r.UserAgent()))
	b = append(b, ' ')
	b = strconv.AppendFloat(b, took.Seconds()*1000, 'f', 3, 64)
	b = append(b, '\n')
	a.line1 = b
	_, _ = a.w.Write(b) //nolint:errcheck // sticky, and seen by flush
	if a.timer == nil {
		a.timer = time.AfterFunc(flushAfter, a.Flush)
	}
}

// user names the client's certificate.
func user(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "-"
	}
	name := strconv.QuoteToASCII(cut(r.TLS.PeerCertificates[0].Subject.CommonName))
	return name
}

func cut(s string) string { return s[:min(len(s), maxLogged)] }

// quoted appends s so that it stays one field of one line, whatever it holds.
func quoted(b []byte, s string) []byte {
	if s == "" {
		return append(b, `"-"`...)
	}
	return strconv.AppendQuoteToASCII(b, s)
}
