package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wire is HTTP/1.1 over plain TCP, as much of it as GET of a file takes: one
// request at a time on a connection, by the goroutine that wants the answer.
// net/http has two goroutines for each connection and some twenty allocations
// for each request, which for files of a few kilobytes is more work than to
// receive them. What needs TLS, redirects or credentials is left to it.
type wire struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	address string // of the server, or of the proxy
	prefix  string // of the request: up to the path
	suffix  string // what follows the path and is always the same
	base    string // of all paths

	mu    sync.Mutex
	idle  []*wireConn // used last at the end
	sweep *time.Timer // closes what is idle for too long
}

const (
	wireIdle     = 16               // connections kept
	wireIdleTime = 60 * time.Second // for that long
	// wireLook is the time after which a connection is looked at before it is
	// used again: the server may have closed it, or said why it will.
	wireLook   = 100 * time.Millisecond
	wireBuffer = 32 << 10
	wireHead   = 64 << 10 // most bytes of an answer's header
)

var errMalformed = errors.New("malformed answer")

// newWire is nil where net/http has to do it.
func newWire(base *url.URL, o *HTTPOptions, d *net.Dialer) *wire {
	if base.Scheme != "http" || base.User != nil || o.FollowRedirects || !plainField(base.Host) || !plainField(o.UserAgent) {
		return nil
	}
	w := &wire{
		dial: d.DialContext, address: hostPort(base), base: strings.TrimRight(base.EscapedPath(), "/") + "/", prefix: "GET ",
		suffix: " HTTP/1.1\r\nHost: " + base.Host + "\r\nUser-Agent: " + o.UserAgent + "\r\n",
	}
	if o.Proxy != nil {
		if o.Proxy.Scheme != "http" || o.Proxy.User != nil || !plainField(o.Proxy.Host) {
			return nil
		}
		w.address, w.prefix = hostPort(o.Proxy), "GET http://"+base.Host
	}
	return w
}

// plainField reports whether a text can be written into a header as it is.
func plainField(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// answerHead is what a server said before the body.
type answerHead struct {
	status  int
	etag    string
	byProxy bool // an error that a proxy made itself
	body    io.ReadCloser
}

// get sends a request and reads the answer's header. began is called when the
// server is there to be waited for. The body is to be closed whatever the
// status. When ctx ends, so does whatever goes on.
//
// A connection that was used before and breaks before it has answered anything
// was closed by the server in the meantime, which is no failure of its.
func (w *wire) get(ctx context.Context, path string, fields func(add func(name, value string)), began func()) (*answerHead, error) {
	for {
		c, used, err := w.take(ctx)
		if err != nil {
			return nil, err
		}
		began()
		stop := context.AfterFunc(ctx, c.interrupt)
		a, err := c.exchange(w, path, fields, stop)
		if err == nil {
			return a, nil
		}
		stop()
		c.Close() //nolint:errcheck // of no use any more
		if !used || c.answered || ctx.Err() != nil {
			return nil, err
		}
	}
}

// take returns an idle connection, or a new one.
func (w *wire) take(ctx context.Context) (c *wireConn, used bool, err error) {
	for {
		w.mu.Lock()
		last := len(w.idle) - 1
		if last < 0 {
			w.mu.Unlock()
			break
		}
		c := w.idle[last]
		w.idle = w.idle[:last]
		w.mu.Unlock()
		if idle := time.Since(c.since); idle < wireLook || idle < wireIdleTime && c.quiet() {
			return c, true, nil
		}
		c.Close() //nolint:errcheck // the server's end is closed
	}
	conn, err := w.dial(ctx, "tcp", w.address)
	if err != nil {
		return nil, false, err
	}
	return &wireConn{Conn: conn, in: bufio.NewReaderSize(conn, wireBuffer)}, false, nil
}

// give takes back a connection whose answer was read to its end.
func (w *wire) give(c *wireConn) {
	c.since = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.idle) >= wireIdle {
		c.Close() //nolint:errcheck // one too many
		return
	}
	w.idle = append(w.idle, c)
	if w.sweep == nil {
		w.sweep = time.AfterFunc(wireIdleTime, w.close)
	} else {
		w.sweep.Reset(wireIdleTime)
	}
}

// close closes the connections that are idle.
func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.idle {
		c.Close() //nolint:errcheck // nobody uses it
	}
	clear(w.idle)
	w.idle = w.idle[:0]
}

// wireConn is one connection, used by one request at a time.
type wireConn struct {
	net.Conn
	in       *bufio.Reader
	out      []byte
	answered bool // the present request, with one byte at least
	since    time.Time
}

// interrupt makes whatever waits for the connection fail.
func (c *wireConn) interrupt() { c.SetDeadline(time.Unix(1, 0)) } //nolint:errcheck // one that is closed does not wait

// quiet reports whether an idle connection is open and nothing came on it.
func (c *wireConn) quiet() bool {
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = errors.Is(err, unix.EAGAIN)
		return true
	})
	return err == nil && quiet
}

// exchange sends a request and returns the answer.
func (c *wireConn) exchange(w *wire, path string, fields func(add func(name, value string)), stop func() bool) (*answerHead, error) {
	c.answered = false
	b := append(c.out[:0], w.prefix...)
	b = append(append(b, w.base...), path...)
	b = append(b, w.suffix...)
	fields(func(name, value string) { b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...) })
	b = append(b, "\r\n"...)
	c.out = b
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	return c.answer(w, stop)
}

// answer reads an answer's header.
func (c *wireConn) answer(w *wire, stop func() bool) (*answerHead, error) {
	if _, err := c.in.Peek(1); err != nil {
		return nil, unexpected(err)
	}
	c.answered = true
	room := wireHead
	for range 5 { // answers before the answer, say 103
		h, err := c.head(&room)
		if err != nil {
			return nil, err
		}
		if h.status < 100 || h.status == http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("%w: status %d", errMalformed, h.status)
		}
		if h.status >= 200 {
			return &answerHead{status: h.status, etag: h.etag, byProxy: h.byProxy, body: newWireBody(w, c, stop, h)}, nil
		}
	}
	return nil, fmt.Errorf("%w: too many answers before the answer", errMalformed)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
