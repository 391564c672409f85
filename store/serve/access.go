package serve

import (
	"bufio"
	"cmp"
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
	mu      sync.Mutex
	w       *bufio.Writer
	log     *slog.Logger
	timer   *time.Timer // nil while nothing waits
	failed  bool
	scratch []byte // under work
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

// entry is a request, and what became of it. Strings are the client's, and not
// bounded yet.
type entry struct {
	remote         string // address, with port
	user           string // the client's certificate, quoted; "" for none
	method, uri    string
	proto          string
	referer, agent string
	status         int
	bytes          int64 // of the body
	at             time.Time
	took           time.Duration
}

func entryOf(r *http.Request, s *seen, at time.Time, took time.Duration) *entry {
	return &entry{
		remote: r.RemoteAddr, user: user(r), method: r.Method, uri: r.RequestURI, proto: r.Proto,
		referer: r.Referer(), agent: r.UserAgent(), status: s.code(), bytes: s.bytes, at: at, took: took,
	}
}

func (a *AccessLog) line(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed {
		return
	}
	host, _, err := net.SplitHostPort(e.remote)
	if err != nil {
		host = "-"
	}
	b := a.scratch[:0]
	b = append(b, host...)
	b = append(b, " - "...)
	b = append(b, cmp.Or(e.user, "-")...)
	b = append(b, " ["...)
	b = e.at.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, "] "...)
	b = quoted(b, e.method+" "+cut(e.uri)+" "+e.proto)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(e.status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, e.bytes, 10)
	b = append(b, ' ')
	b = quoted(b, cut(e.referer))
	b = append(b, ' ')
	b = quoted(b, cut(e.agent))
	b = append(b, ' ')
	b = strconv.AppendFloat(b, e.took.Seconds()*1000, 'f', 3, 64)
	b = append(b, '\n')
	a.scratch = b
	_, _ = a.w.Write(b) //nolint:errcheck // sticky, and seen by flush
	if a.timer == nil {
		a.timer = time.AfterFunc(flushAfter, a.Flush)
	}
}

// user names the client's certificate, quoted; "" if it has shown none.
func user(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	return strconv.QuoteToASCII(cut(r.TLS.PeerCertificates[0].Subject.CommonName))
}

func cut(s string) string { return s[:min(len(s), maxLogged)] }

// quoted appends s so that it stays one field of one line, whatever it holds.
func quoted(b []byte, s string) []byte {
	if s == "" {
		return append(b, `"-"`...)
	}
	return strconv.AppendQuoteToASCII(b, s)
}
