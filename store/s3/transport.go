package s3

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// errStalled is a connection on which nothing moved for the whole timeout.
var errStalled = errors.New("nothing moved")

// newTransport bounds every wait: for the connection, and on it for each pause
// in either direction. There is no bound on a whole transfer, which may be
// large.
func newTransport(o Options, clock *serverClock) http.RoundTripper {
	dialer := &net.Dialer{Timeout: o.Timeout, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &movingConn{Conn: c, limit: o.Timeout}, nil
		},
		TLSHandshakeTimeout:    o.Timeout,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConns:           o.Concurrency,
		MaxIdleConnsPerHost:    o.Concurrency,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
		DisableCompression:     true, // objects are what they are
	}
	if o.Proxy != nil {
		t.Proxy = http.ProxyURL(o.Proxy)
	}
	return &timing{t, clock}
}

// movingConn ends a connection on which nothing moves for limit. A write
// prolongs the wait of a read under way, since a connection that was idle
// begins anew with each request.
type movingConn struct {
	net.Conn
	limit time.Duration
}

func (c *movingConn) Read(p []byte) (int, error) {
	c.prolong()
	n, err := c.Conn.Read(p)
	return n, stalled(err)
}

func (c *movingConn) Write(p []byte) (int, error) {
	c.prolong()
	n, err := c.Conn.Write(p)
	return n, stalled(err)
}

func (c *movingConn) prolong() {
	_ = c.SetDeadline(time.Now().Add(c.limit)) //nolint:errcheck // a closed connection says so when it is used
}

func stalled(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errStalled
	}
	return err
}

// serverClock is what time it is for the server: the age of a lock is told by
// one clock, and that is not ours.
type serverClock struct {
	ahead atomic.Int64 // nanoseconds
	known atomic.Bool
}

func (c *serverClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// timing learns the server's clock from its answers.
type timing struct {
	next  http.RoundTripper
	clock *serverClock
}

func (t *timing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		if date, derr := http.ParseTime(resp.Header.Get("Date")); derr == nil {
			t.clock.ahead.Store(int64(time.Until(date)))
			t.clock.known.Store(true)
		}
	}
	return resp, err
}
