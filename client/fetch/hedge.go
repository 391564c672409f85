package fetch

import (
	"context"
	"io"
	"time"
)

// answer is what came of a request to one server.
type answer struct {
	server *Server
	body   io.ReadCloser
	err    error
	cancel context.CancelFunc // ends the request, body included
}

// ask sends a request to one server and learns how fast it is.
func (s *Servers) ask(ctx context.Context, server *Server, path string, o Options) answer {
	ctx, cancel := context.WithCancel(ctx)
	start := time.Now()
	body, err := server.Fetcher.Fetch(ctx, path, o)
	if err == nil {
		server.latency.note(time.Since(start))
	}
	return answer{server, body, err, cancel}
}

// hedged asks the first server and, if that is slower than it usually is, the
// second at the same time. It returns the answer that was there first, unless
// that is a failure and the other is not. ok is false where there is nothing to
// hedge with; then nothing was sent.
func (s *Servers) hedged(ctx context.Context, order []*Server, path string, o Options) (_ answer, ok bool) {
	if !s.Hedge || len(order) < 2 || o.NoCache || o.ETag != "" || o.MaxAge > 0 {
		return answer{}, false // a root file is asked of the preferred server
	}
	s.allowed.earn()
	late := order[0].latency.late()
	if late == 0 || order[1].health.down(s.now()) {
		return answer{}, false
	}
	answers := make(chan answer, 2) // never blocks, even if nobody waits
	first, cancelFirst := context.WithCancel(ctx)
	go func() { answers <- s.ask(first, order[0], path, o) }()
	timer := time.NewTimer(late)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.with(cancelFirst), true
	case <-timer.C:
	}
	if !s.allowed.take() {
		return (<-answers).with(cancelFirst), true
	}
	s.hedges.Add(1)
	second, cancelSecond := context.WithCancel(ctx)
	go func() { answers <- s.ask(second, order[1], path, o) }()
	won := <-answers
	if won.err != nil {
		if other := <-answers; other.err == nil {
			// Whoever failed is judged by the one who asked both.
			s.judge(won.server, won.err)
			won = other
		}
		return s.settle(order, won.with(func() { cancelFirst(); cancelSecond() })), true
	}
	loser := cancelFirst
	winner := cancelSecond
	if won.server == order[0] {
		loser, winner = cancelSecond, cancelFirst
	}
	loser()
	go func() {
		if lost := <-answers; lost.body != nil {
			lost.body.Close() //nolint:errcheck // nobody reads it
			lost.cancel()
		}
	}()
	return s.settle(order, won.with(winner)), true
}

// settle gives back the allowance if the second server was of use.
func (s *Servers) settle(order []*Server, a answer) answer {
	if a.err == nil && a.server == order[1] {
		s.allowed.back()
	}
	return a
}

// with has more ended when the answer's request is.
func (a answer) with(cancel context.CancelFunc) answer {
	inner := a.cancel
	a.cancel = func() { inner(); cancel() }
	return a
}

// ending ends a request when its body is closed.
type ending struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (e *ending) ETag() string { return ETag(e.ReadCloser) }

func (e *ending) Close() error {
	defer e.cancel()
	return e.ReadCloser.Close()
}
