package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
)

type counted struct {
	N int `json:"n"`
}

// serving starts a daemon with calls of its own.
func serving(t *testing.T, calls map[string]control.Call) *control.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "cell.sock")
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	d := &daemon{}
	go func() {
		ended <- (&control.Server{Lowers: d, Reports: d, Calls: calls, Timeout: 200 * time.Millisecond}).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &control.Client{Socket: socket, Timeout: 20 * time.Second}
}

func TestCallsOfTheDaemonsOwn(t *testing.T) {
	c := serving(t, map[string]control.Call{
		"double": control.Handle(func(_ context.Context, p counted) (counted, error) { return counted{2 * p.N}, nil }),
		"count": control.HandleLong(func(_ context.Context, p counted, progress func(any)) (counted, error) {
			for n := range p.N {
				progress(counted{n})
			}
			return p, nil
		}),
		"fail": control.Handle(func(context.Context, struct{}) (any, error) {
			return nil, fmt.Errorf("%w: no such thing", control.ErrNotFound)
		}),
	})
	var got counted
	if err := c.Do(t.Context(), "double", counted{21}, &got, nil); err != nil || got.N != 42 {
		t.Errorf("double: %+v, %v", got, err)
	}
	var seen []int
	err := c.Do(t.Context(), "count", counted{3}, &got, func(raw json.RawMessage) {
		var p counted
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Error(err)
		}
		seen = append(seen, p.N)
	})
	if err != nil || got.N != 3 || !slices.Equal(seen, []int{0, 1, 2}) {
		t.Errorf("count: %+v, %v, %v", got, seen, err)
	}
	// Who does not ask for progress gets one line.
	if err := c.Do(t.Context(), "count", counted{3}, &got, nil); err != nil || got.N != 3 {
		t.Errorf("count without progress: %+v, %v", got, err)
	}
	if err := c.Do(t.Context(), "fail", nil, nil, nil); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("fail: %v", err)
	}
	if err := c.Do(t.Context(), "double", map[string]int{"m": 1}, nil, nil); !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), `"m"`) {
		t.Errorf("unknown parameter: %v", err)
	}
	if err := c.Do(t.Context(), "nothing", nil, nil, nil); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("unknown call: %v", err)
	}
}

// Only long calls may outlast the server's own bound, and a client that leaves
// ends its call.
func TestLongCalls(t *testing.T) {
	deadline := make(chan time.Duration, 1)
	tell := func(ctx context.Context) {
		d, _ := ctx.Deadline()
		deadline <- time.Until(d)
	}
	left := make(chan struct{})
	c := serving(t, map[string]control.Call{
		"short": control.Handle(func(ctx context.Context, _ struct{}) (any, error) { tell(ctx); return nil, nil }),
		"long": control.HandleLong(func(ctx context.Context, _ struct{}, _ func(any)) (any, error) {
			tell(ctx)
			return nil, nil
		}),
		"wait": control.HandleLong(func(ctx context.Context, _ struct{}, progress func(any)) (any, error) {
			progress("waiting")
			<-ctx.Done()
			close(left)
			return nil, ctx.Err()
		}),
	})
	for name, ok := range map[string]func(time.Duration) bool{
		"short": func(d time.Duration) bool { return d <= 200*time.Millisecond },
		"long":  func(d time.Duration) bool { return d > 10*time.Second && d <= 20*time.Second },
	} {
		if err := c.Do(t.Context(), name, nil, nil, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := <-deadline; !ok(d) {
			t.Errorf("%s may take %v", name, d)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Do(ctx, "wait", nil, nil, func(json.RawMessage) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	<-left
}
