package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
)

// Server is one source of a repository with its name for messages.
type Server struct {
	Name    string // its base URL
	Fetcher Fetcher

	health  health
	latency latency
}

// Servers asks in order, goes on to the next on failure, and returns to the
// earlier one after a rest. A file that is missing on one server, say a
// replica that lags behind, is looked for on the others, but the server keeps
// its place.
type Servers struct {
	list  []*Server
	reset time.Duration
	now   func() time.Time

	// Hedge has an object asked of the next server, too, when the first is
	// slower than it usually is. It is set before the first Fetch.
	Hedge   bool
	allowed allowance
	hedges  atomic.Int64
}

// NewServers orders by preference. A server that failed is passed over for
// reset (CVMFS_HOST_RESET_AFTER); now is the clock.
func NewServers(list []*Server, reset time.Duration, now func() time.Time) (*Servers, error) {
	if len(list) == 0 {
		return nil, errors.New("no server is configured: set at least one URL")
	}
	return &Servers{list: list, reset: reset, now: now}, nil
}

// Alternatives is the number of servers.
func (s *Servers) Alternatives() int { return len(s.list) }

// Current names the server that the next request goes to.
func (s *Servers) Current() string { return s.order()[0].Name }

// List names all servers in order of preference.
func (s *Servers) List() []string {
	names := make([]string, len(s.list))
	for i, server := range s.list {
		names[i] = server.Name
	}
	return names
}

// State is what is thought of a server or a proxy at the moment.
type State struct {
	Name string
	// Group counts the groups of proxies from 0; servers are all in one.
	Group int
	// Until is when one that failed is tried again in its place; until then
	// it comes last. Zero for one that is well.
	Until time.Time
	// Latency is the moving mean of the time to the first byte; 0 if none
	// came, and of proxies.
	Latency time.Duration
}

// States lists all servers in order of preference.
func (s *Servers) States() []State {
	now := s.now()
	list := make([]State, len(s.list))
	for i, server := range s.list {
		list[i] = State{Name: server.Name, Until: server.health.rest(now), Latency: server.latency.usual()}
	}
	return list
}

func (s *Servers) order() []*Server {
	list := append(make([]*Server, 0, 8), s.list...)
	return byHealth(list, func(x *Server) *health { return &x.health }, s.now())
}

// Fetch returns the first server's answer that is not a failure. If all fail,
// the error is ErrNotFound only if all of them say so.
func (s *Servers) Fetch(ctx context.Context, path string, o Options) (io.ReadCloser, error) {
	order := s.order()
	if o.Skip >= len(order) {
		return nil, fmt.Errorf("%w: all %d servers were tried", ErrUnavailable, len(order))
	}
	order, o.Skip = order[o.Skip:], 0
	var failures, missing []error
	for len(order) > 0 {
		a, ok := s.hedged(ctx, order, path, o)
		if !ok {
			a = s.ask(ctx, order[0], path, o)
		}
		if a.err == nil {
			a.server.health.ok()
			body := &ending{a.body, a.cancel}
			return &watched{ReadCloser: body, failed: func(err error) { s.judge(a.server, err) }}, nil
		}
		a.cancel()
		order = without(order, a.server)
		switch {
		case errors.Is(a.err, ErrNotModified) || ctx.Err() != nil:
			return nil, a.err
		case errors.Is(a.err, ErrNotFound):
			missing = append(missing, a.err)
			continue
		}
		s.judge(a.server, a.err)
		failures = append(failures, a.err)
	}
	if len(failures) > 0 {
		return nil, errors.Join(failures...)
	}
	return nil, missing[0]
}

// without is order less one server. order is the caller's own.
func without(order []*Server, server *Server) []*Server {
	return slices.DeleteFunc(order, func(x *Server) bool { return x == server })
}

func (s *Servers) judge(server *Server, err error) {
	if !blamed(err, BlameNobody) {
		server.health.fail(s.now(), s.reset)
	}
}
