package serve

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// quickListener lets connections answer quick requests themselves.
type quickListener struct {
	net.Listener
	quick *Quick
	grace time.Duration
	// late counts connections that were closed while they answered, and will
	// be when they have. It grows only while the server is shut down.
	late sync.WaitGroup
}

func (l *quickListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return &quickConn{TCPConn: tcp, l: l}, err
	}
	return c, err
}

// noteState is the server's ConnState hook.
func noteState(c net.Conn, state http.ConnState) {
	if q, ok := c.(*quickConn); ok {
		q.idle.Store(state == http.StateIdle)
	}
}

// quickConn is a connection of net/http's that answers a quick request itself
// where net/http waits for the next one: when the server has declared the
// connection idle, and has been given nothing of what follows. So requests are
// answered in their order, and whatever is not understood to the last byte is
// net/http's, as is the first request of each connection.
type quickConn struct {
	*net.TCPConn
	l    *quickListener
	idle atomic.Bool

	// These are for who reads; net/http lets one at a time.
	whole   bool   // what net/http was given are whole requests without a body
	given   []byte // the part of a request it was given, at most one byte
	through bool   // what it was given is not known to be requests
	until   time.Time
	address string

	mu        sync.Mutex
	answering bool
	closed    bool
}

// Read gives net/http what is its.
func (c *quickConn) Read(p []byte) (int, error) {
	for {
		n, err := c.TCPConn.Read(p)
		if n == 0 || c.through {
			return n, err
		}
		if c.idle.Load() && c.whole && len(c.given) == 0 {
			answered, aerr := c.answer(p[:n])
			if aerr != nil {
				return 0, aerr
			}
			if answered && err == nil {
				continue
			} else if answered {
				return 0, err
			}
		}
		c.follow(p[:n])
		return n, err
	}
}

// follow notes what net/http is given.
func (c *quickConn) follow(p []byte) {
	c.idle.Store(false)
	head := p
	if len(c.given) > 0 {
		head = append(c.given, p...)
	}
	c.given = nil
	c.whole = isHead(head)
	if c.whole {
		return
	}
	// While it answers, net/http reads one byte ahead, to see who leaves.
	if len(head) == 1 {
		c.given = []byte{head[0]}
		return
	}
	c.through = true
}

// answer answers a quick request, if p is one.
func (c *quickConn) answer(p []byte) (bool, error) {
	q, ok := parseQuick(p)
	if !ok {
		return false, nil
	}
	began := time.Now()
	c.prolong(began) // before Close may set an earlier end
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false, net.ErrClosed
	}
	c.answering = true
	c.mu.Unlock()
	ok, err := c.l.quick.answer(c, q, began)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answering = false
	if c.closed {
		_ = c.TCPConn.Close() //nolint:errcheck // nobody waits for it any more
		c.l.late.Done()
		return false, net.ErrClosed
	}
	return ok, err
}

// prolong gives the connection the time that net/http would give it: to be idle
// after this request, and for its answer. It does so once a second.
func (c *quickConn) prolong(now time.Time) {
	if now.Before(c.until) {
		return
	}
	c.until = now.Add(time.Second)
	_ = c.SetReadDeadline(now.Add(idleTime))  //nolint:errcheck // a closed connection says so when it is used
	_ = c.SetWriteDeadline(now.Add(baseTime)) //nolint:errcheck // see above
}

// remote is the client's address, made once.
func (c *quickConn) remote() string {
	if c.address == "" {
		c.address = c.RemoteAddr().String()
	}
	return c.address
}

// Close closes the connection, or lets an answer under way end first, within
// the server's grace: for net/http the connection is idle, and closed when the
// server is to stop.
func (c *quickConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	if !c.answering {
		return c.TCPConn.Close()
	}
	c.l.late.Add(1)
	return c.SetWriteDeadline(time.Now().Add(c.l.grace))
}
