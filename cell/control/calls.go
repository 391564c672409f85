package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// LongTimeout bounds calls that work through a whole cache or tree, or wait
// for containers to go.
const LongTimeout = 24 * time.Hour

// Call is one operation that a daemon offers beyond what this package knows.
type Call struct {
	// Long calls may take up to [LongTimeout], if the client asks for it.
	Long bool
	// Run decodes params, works and returns what encodes as the result.
	// progress is never nil; what it is given reaches a client that asked
	// for it as a line of its own before the answer.
	Run func(ctx context.Context, params json.RawMessage, progress func(any)) (any, error)
}

// Handle makes a Call of a function over types. A field of the parameters that
// P does not have is an error.
func Handle[P, R any](run func(ctx context.Context, params P) (R, error)) Call {
	return Call{Run: func(ctx context.Context, raw json.RawMessage, _ func(any)) (any, error) {
		var p P
		if err := optional(raw, &p); err != nil {
			return nil, err
		}
		return run(ctx, p)
	}}
}

// HandleLong is Handle for what takes long and tells how far it is.
func HandleLong[P, R any](run func(ctx context.Context, params P, progress func(any)) (R, error)) Call {
	return Call{Long: true, Run: func(ctx context.Context, raw json.RawMessage, progress func(any)) (any, error) {
		var p P
		if err := optional(raw, &p); err != nil {
			return nil, err
		}
		return run(ctx, p, progress)
	}}
}

func optional(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		return nil
	}
	return strict(raw, into)
}

// Do runs one of the daemon's own calls and decodes its result; params and
// result may be nil. With progress not nil, it is called for each line that the
// daemon sends before its answer.
func (c *Client) Do(ctx context.Context, name string, params, result any, progress func(json.RawMessage)) error {
	return c.callWith(ctx, name, params, result, progress)
}

// reporter writes lines of progress until the answer is due.
type reporter struct {
	conn *net.UnixConn
	mu   sync.Mutex
	done bool
}

// report drops what cannot be sent: the answer's own write will tell that the
// client is gone.
func (r *reporter) report(value any) {
	raw, err := json.Marshal(value)
	if err != nil || len(raw) > MaxRequest {
		return
	}
	line, err := json.Marshal(answer{Progress: raw})
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return
	}
	r.conn.SetWriteDeadline(time.Now().Add(lineTimeout)) //nolint:errcheck // Write would say so
	if _, err := r.conn.Write(append(line, '\n')); err != nil {
		r.done = true
	}
}

func (r *reporter) end() {
	r.mu.Lock()
	r.done = true
	r.mu.Unlock()
}

// readAnswer hands lines of progress on and returns the line that is none.
func readAnswer(r io.Reader, progress func(json.RawMessage)) ([]byte, error) {
	lines := bufio.NewReaderSize(r, MaxRequest)
	for {
		var line []byte
		for {
			part, err := lines.ReadSlice('\n')
			line = append(line, part...)
			if len(line) > MaxAnswer {
				return nil, fmt.Errorf("%w: over %d bytes", errLineTooLong, MaxAnswer)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				if errors.Is(err, io.EOF) {
					err = errNoLine
				}
				return nil, err
			}
		}
		var a answer
		if json.Unmarshal(line, &a) != nil || a.Progress == nil {
			return line, nil // the caller says what is wrong with it
		}
		progress(a.Progress)
	}
}
