package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Client is a worker's side: its lease, and the mounts it has.
type Client struct {
	socket string
	log    *slog.Logger

	mu    sync.Mutex
	lease *net.UnixConn
	pid   int              // the holder's, 0 while there is none
	list  []Mount          // what the holder had at the beginning
	mine  map[string]*Held // copies, for a holder that comes after this one
	ended bool
	done  chan struct{}
}

// Connect takes the lease of the holder at socket. The caller closes the client;
// until then a holder that goes and comes back gets all mounts again.
func Connect(ctx context.Context, socket string, log *slog.Logger) (*Client, error) {
	c := &Client{socket: socket, log: log, mine: map[string]*Held{}, done: make(chan struct{})}
	if err := c.takeLease(ctx); err != nil {
		return nil, err
	}
	go c.watch()
	return c, nil
}

func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixpacket", c.socket)
	if err != nil {
		return nil, fmt.Errorf("holder: %w; is rootstock-cell hold running with this socket?", err)
	}
	u := conn.(*net.UnixConn) //nolint:errcheck // what the network "unixpacket" gives
	if _, err := peerPID(u); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, u.SetDeadline(time.Now().Add(callTimeout))
}

func (c *Client) takeLease(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	var a answer
	if err = send(conn, &request{Op: opLease, Version: version}, nil); err == nil {
		_, err = receive(conn, &a)
	}
	if err == nil {
		err = a.err()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return errors.Join(net.ErrClosed, conn.Close())
	}
	c.lease, c.pid, c.list = conn, a.PID, a.Mounts
	return nil
}

// PID is the holder's process id, 0 while there is none.
func (c *Client) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// Mounts lists what the holder had when it was asked first.
func (c *Client) Mounts() []Mount {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Mount(nil), c.list...)
}

// Open has the holder mount m. The caller closes what it gets.
func (c *Client) Open(ctx context.Context, m Mount) (*Held, error) { return c.get(ctx, opOpen, m) }

// Take returns a mount that the holder has, or an error that wraps [ErrNone].
// The caller closes what it gets.
func (c *Client) Take(ctx context.Context, key string) (*Held, error) {
	return c.get(ctx, opTake, Mount{Key: key})
}

// Drop has the holder unmount a mount and close its device; one it does not have
// is no error.
func (c *Client) Drop(ctx context.Context, key string) error {
	c.mu.Lock()
	if h := c.mine[key]; h != nil {
		h.Close()
		delete(c.mine, key)
	}
	c.mu.Unlock()
	_, err := c.call(ctx, &request{Op: opDrop, Mount: Mount{Key: key}}, nil)
	if errors.Is(err, ErrNone) {
		return nil
	}
	return err
}

// Close gives the lease up. The mounts stay with the holder.
func (c *Client) Close() {
	c.mu.Lock()
	c.ended = true
	if c.lease != nil {
		c.lease.Close() //nolint:errcheck // it ends either way
	}
	c.mu.Unlock()
	<-c.done
	for _, h := range c.mine {
		h.Close()
	}
}

func (c *Client) get(ctx context.Context, op string, m Mount) (*Held, error) {
	h, err := c.call(ctx, &request{Op: op, Mount: m}, nil)
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, fmt.Errorf("holder: no descriptors came with %s", m.Key)
	}
	spare, err := h.copy()
	if err != nil {
		h.Close()
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.mine[h.Key]; old != nil {
		old.Close()
	}
	c.mine[h.Key] = spare
	return h, nil
}

func (c *Client) call(ctx context.Context, r *request, with *Held) (*Held, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // all is said
	r.Version = version
	if err := send(conn, r, with); err != nil {
		return nil, err
	}
	var a answer
	h, err := receive(conn, &a)
	if err == nil {
		err = a.err()
	}
	if err == nil && h != nil {
		if len(a.Mounts) != 1 {
			err = fmt.Errorf("holder: %d mounts for one", len(a.Mounts))
		} else {
			h.Mount = a.Mounts[0]
		}
	}
	if err != nil && h != nil {
		h.Close()
		h = nil
	}
	return h, err
}

// watch waits for the holder to go, and gives the next one what it needs.
func (c *Client) watch() {
	defer close(c.done)
	const pause = 200 * time.Millisecond
	for {
		c.mu.Lock()
		conn := c.lease
		c.mu.Unlock()
		conn.Read(make([]byte, 1)) //nolint:errcheck // nothing is said; it ends with the holder
		conn.Close()               //nolint:errcheck // it is gone
		c.mu.Lock()
		c.pid = 0
		ended := c.ended
		c.mu.Unlock()
		if ended {
			return
		}
		c.log.Error("the holder is gone: mounts last as long as this process until it is back", "socket", c.socket)
		for c.back() != nil {
			time.Sleep(pause)
			c.mu.Lock()
			ended = c.ended
			c.mu.Unlock()
			if ended {
				return
			}
		}
		c.log.Info("the holder is back and has the mounts again", "pid", c.PID())
	}
}

// back gives a new holder everything.
func (c *Client) back() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := c.takeLease(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.mine {
		if _, err := c.call(ctx, &request{Op: opGive, Mount: h.Mount}, h); err != nil {
			c.log.Error("the new holder does not take a mount", "key", h.Key, "error", err)
		}
	}
	return nil
}
