package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// DefaultTimeout bounds a call whose context has no deadline. It is long
// because a tree that this cell has never seen may have to come over a network
// first.
const DefaultTimeout = 2 * time.Minute

// Client calls the daemon that listens at Socket. Its zero Timeout means
// [DefaultTimeout]. It holds no connection and may be used concurrently.
//
// Errors wrap one of the package's sentinels; a daemon that does not answer is
// [ErrUnavailable].
type Client struct {
	Socket  string
	Timeout time.Duration
}

var (
	_ Lowers = (*Client)(nil)
	_ Asker  = (*Client)(nil)
)

// Lower implements [Lowers].
func (c *Client) Lower(ctx context.Context, r LowerRequest) (Lower, error) {
	var l Lower
	if err := CheckHandle(r.Handle); err != nil {
		return Lower{}, err
	}
	if err := c.call(ctx, callLower, r, &l); err != nil {
		return Lower{}, err
	}
	return l, nil
}

// Release implements [Lowers].
func (c *Client) Release(ctx context.Context, handle string) error {
	if err := CheckHandle(handle); err != nil {
		return err
	}
	return c.call(ctx, callRelease, releaseParams{handle}, nil)
}

// MayPull implements [Asker].
func (c *Client) MayPull(ctx context.Context, r PullRequest) error {
	return c.call(ctx, callMayPull, r, nil)
}

// Status returns the daemon's status document.
func (c *Client) Status(ctx context.Context) (json.RawMessage, error) {
	var doc json.RawMessage
	err := c.call(ctx, callStatus, nil, &doc)
	return doc, err
}

// Containers returns the handles that have a pinned tree.
func (c *Client) Containers(ctx context.Context) ([]Container, error) {
	var list []Container
	err := c.call(ctx, callContainers, nil, &list)
	return list, err
}

func (c *Client) call(ctx context.Context, name string, params, result any) error {
	return c.callWith(ctx, name, params, result, nil)
}

func (c *Client) callWith(ctx context.Context, name string, params, result any, progress func(json.RawMessage)) error {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answered, err := c.exchange(ctx, name, params, progress)
	if err != nil {
		return err
	}
	var a answer
	if err := json.Unmarshal(answered, &a); err != nil {
		return fmt.Errorf("%w: %s: the daemon's answer: %w", ErrInternal, name, err)
	}
	if a.Error != nil {
		return a.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(a.Result, result); err != nil {
		return fmt.Errorf("%w: %s: the daemon's answer: %w", ErrInternal, name, err)
	}
	return nil
}

// exchange sends one line and returns the other.
func (c *Client) exchange(ctx context.Context, name string, params any, progress func(json.RawMessage)) ([]byte, error) {
	deadline, _ := ctx.Deadline()
	req := request{Call: name, TimeoutMS: max(time.Until(deadline).Milliseconds(), 1), Progress: progress != nil}
	var err error
	if params != nil {
		if req.Params, err = json.Marshal(params); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, name, err)
		}
	}
	line, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, name, err)
	}
	if len(line) >= MaxRequest {
		return nil, fmt.Errorf("%w: %s: request over %d bytes", ErrInvalid, name, MaxRequest)
	}
	var d net.Dialer
	dialed, err := d.DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; is rootstock-cell running?", ErrUnavailable, err)
	}
	conn := dialed.(*net.UnixConn) //nolint:errcheck // what the network "unix" gives
	defer conn.Close()             //nolint:errcheck // the answer has been read by then
	// Closing is what wakes a blocked read when ctx ends, and what tells the
	// daemon that nobody waits any more.
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // see above
	defer stop()
	if err := CheckPeer(conn); err != nil {
		return nil, fmt.Errorf("daemon at %s: %w", c.Socket, err)
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return nil, c.broken(ctx, name, err)
	}
	var got []byte
	if progress != nil {
		got, err = readAnswer(conn, progress)
	} else {
		got, err = readLine(conn, MaxAnswer)
	}
	if errors.Is(err, errLineTooLong) {
		return nil, fmt.Errorf("%w: %s: the daemon's answer: %w", ErrInternal, name, err)
	}
	if err != nil {
		return nil, c.broken(ctx, name, err)
	}
	return got, nil
}

// broken words the end of a connection, whose own error says less than the
// context that caused it.
func (c *Client) broken(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("%w: daemon at %s: %s: %w", ErrUnavailable, c.Socket, name, err)
}
