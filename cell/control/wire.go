package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// The calls.
const (
	callLower      = "lower"
	callRelease    = "release"
	callMayPull    = "maypull"
	callStatus     = "status"
	callContainers = "containers"
)

// maxMessage bounds an error's message in bytes.
const maxMessage = 4 << 10

type request struct {
	Call      string          `json:"call"`
	TimeoutMS int64           `json:"timeout_ms,omitempty"`
	Progress  bool            `json:"progress,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
}

type answer struct {
	Progress json.RawMessage `json:"progress,omitempty"` // not the answer yet
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *wireError      `json:"error,omitempty"`
}

type releaseParams struct {
	Handle string `json:"handle"`
}

// wireError is an error as it travels. On the client's side it is the error:
// its text is the daemon's message and it unwraps to the kind's sentinel.
type wireError struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// kinds is the one table between sentinels and their names on the wire.
var kinds = []struct {
	name string
	err  error
}{
	{"notfound", ErrNotFound},
	{"unavailable", ErrUnavailable},
	{"invalid", ErrInvalid},
	{"denied", ErrDenied},
	{"internal", ErrInternal},
}

func toWire(err error) *wireError {
	w := &wireError{Kind: "internal", Message: err.Error()}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		w.Kind = "unavailable"
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			w.Kind = k.name
			break
		}
	}
	if len(w.Message) > maxMessage {
		w.Message = w.Message[:maxMessage] + "…"
	}
	return w
}

func (w *wireError) Error() string { return w.Message }

func (w *wireError) Unwrap() error {
	for _, k := range kinds {
		if k.name == w.Kind {
			return k.err
		}
	}
	return ErrInternal
}

var (
	errLineTooLong = errors.New("line too long")
	errNoLine      = errors.New("connection closed before the end of the line")
)

// readLine reads a line of at most most bytes and returns it without its
// newline. Bytes behind it are an error:
// a connection carries one line each way.
func readLine(r io.Reader, most int) ([]byte, error) {
	buf := make([]byte, 0, 4096)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), most)])
		if i := bytes.IndexByte(buf[len(buf):len(buf)+n], '\n'); i >= 0 {
			end := len(buf) + i
			if end+1 != len(buf)+n {
				return nil, errors.New("bytes behind the line")
			}
			return buf[:end:end], nil
		}
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) >= most:
			return nil, fmt.Errorf("%w: over %d bytes", errLineTooLong, most)
		case errors.Is(err, io.EOF):
			return nil, errNoLine
		case err != nil:
			return nil, err
		}
	}
}

// CheckPeer lets only root and the process's own user through.
func CheckPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return fmt.Errorf("peer's credentials: %w", credErr)
	}
	if own := unix.Geteuid(); cred.Uid != 0 && int64(cred.Uid) != int64(own) {
		return fmt.Errorf("%w: the peer runs as user %d, not as root or user %d", ErrDenied, cred.Uid, own)
	}
	return nil
}
