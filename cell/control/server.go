package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lineTimeout is how long a client may take over sending its line or
	// taking the answer's.
	lineTimeout = 10 * time.Second
	// maxConns is how many calls run at a time; more wait to be accepted.
	maxConns = 256
)

// Server answers calls with what the daemon implements. Its zero Timeout means
// [DefaultTimeout].
type Server struct {
	Lowers  Lowers
	Reports Reporter
	Asks    Asker // nil where no registry is asked
	// Calls are the daemon's own, by name. Names this package knows are
	// taken.
	Calls   map[string]Call
	Timeout time.Duration // the most a call may take, whatever it asks for, unless it is long
	Log     *slog.Logger  // nil for none
}

// Serve answers calls until ctx ends, then closes l, waits for the calls under
// way, whose contexts have ended too, and returns nil. Any other end is an
// error.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	var calls sync.WaitGroup
	defer calls.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() }) //nolint:errcheck // it ends the loop either way
	defer stop()
	slots := make(chan struct{}, maxConns)
	for {
		slots <- struct{}{}
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close() //nolint:errcheck // nothing was said
			}
			return nil
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ECONNABORTED):
			<-slots
			s.log().Warn("control socket: accept", "error", err)
			select { // descriptors come back when calls end
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		case err != nil:
			return fmt.Errorf("control socket: %w", err)
		}
		calls.Go(func() {
			defer func() { <-slots }()
			s.serve(ctx, conn)
		})
	}
}

func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close() //nolint:errcheck // the answer is out or nobody wants it
	// An end of the server must not wait for a client that says nothing.
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) }) //nolint:errcheck // see serve's end
	defer stop()
	result, err := s.answer(ctx, conn)
	var a answer
	if err == nil {
		a.Result, err = json.Marshal(result)
	}
	if err == nil && len(a.Result) > MaxAnswer-64 {
		err = fmt.Errorf("%w: the answer has %d bytes, over %d", ErrInternal, len(a.Result), MaxAnswer-64)
	}
	if err != nil {
		a = answer{Error: toWire(err)}
		s.log().Debug("control call failed", "kind", a.Error.Kind, "error", err)
	}
	line, err := json.Marshal(a)
	if err != nil {
		s.log().Error("control answer", "error", err)
		return
	}
	conn.SetWriteDeadline(time.Now().Add(lineTimeout)) //nolint:errcheck // Write would say so
	if _, err := conn.Write(append(line, '\n')); err != nil {
		s.log().Debug("control answer", "error", err)
	}
}

// answer reads the request and runs the call.
func (s *Server) answer(ctx context.Context, conn *net.UnixConn) (any, error) {
	if err := CheckPeer(conn); err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Now().Add(lineTimeout)) //nolint:errcheck // Read would say so
	if ctx.Err() != nil {                             // serve's AfterFunc may have run before the line above
		return nil, fmt.Errorf("%w: the daemon is stopping", ErrUnavailable)
	}
	line, err := readLine(conn, MaxRequest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var req request
	if err := strict(line, &req); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.allowed(&req))
	defer cancel()
	defer watch(conn, cancel)()
	progress := func(any) {}
	if req.Progress {
		r := &reporter{conn: conn}
		defer r.end()
		progress = r.report
	}
	return s.dispatch(ctx, req, progress)
}

// allowed is how long a call may take.
func (s *Server) allowed(req *request) time.Duration {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	asked := req.TimeoutMS
	if s.Calls[req.Call].Long && asked > timeout.Milliseconds() {
		timeout = LongTimeout
	}
	if asked > 0 && asked < timeout.Milliseconds() {
		timeout = time.Duration(asked) * time.Millisecond
	}
	return timeout
}

// watch cancels a call whose client goes away. The function it returns ends
// the watching.
func watch(conn *net.UnixConn, cancel context.CancelFunc) (stop func()) {
	conn.SetReadDeadline(time.Time{}) //nolint:errcheck // Read would say so
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		conn.Read(make([]byte, 1)) //nolint:errcheck // whatever ends it: nothing more may come
		select {
		case <-done:
		default:
			cancel()
		}
	})
	return func() {
		close(done)
		conn.SetReadDeadline(time.Now()) //nolint:errcheck // see above
		wg.Wait()
	}
}

func (s *Server) dispatch(ctx context.Context, req request, progress func(any)) (any, error) {
	switch req.Call {
	case callLower:
		var p LowerRequest
		if err := strict(req.Params, &p); err != nil {
			return nil, err
		}
		if err := CheckHandle(p.Handle); err != nil {
			return nil, err
		}
		return s.Lowers.Lower(ctx, p)
	case callRelease:
		var p releaseParams
		if err := strict(req.Params, &p); err != nil {
			return nil, err
		}
		if err := CheckHandle(p.Handle); err != nil {
			return nil, err
		}
		return struct{}{}, s.Lowers.Release(ctx, p.Handle)
	case callMayPull:
		if s.Asks == nil {
			return nil, fmt.Errorf("%w: this daemon asks no registries", ErrUnavailable)
		}
		var p PullRequest
		if err := strict(req.Params, &p); err != nil {
			return nil, err
		}
		return struct{}{}, s.Asks.MayPull(ctx, p)
	case callStatus:
		return s.Reports.Status(ctx)
	case callContainers:
		list, err := s.Reports.Containers(ctx)
		if list == nil {
			list = []Container{}
		}
		return list, err
	}
	if c, ok := s.Calls[req.Call]; ok {
		return c.Run(ctx, req.Params, progress)
	}
	return nil, fmt.Errorf("%w: unknown call %q; are daemon and client of the same release?", ErrInvalid, req.Call)
}

// strict decodes a request. A field this daemon does not know might be one the
// caller counts on, so it is an error.
func strict(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if d.More() {
		return fmt.Errorf("%w: more than one JSON value", ErrInvalid)
	}
	return nil
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}
