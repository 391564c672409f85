package fusefs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// tasks are the requests that may wait: each has a context with a deadline,
// runs on one of a bounded number of goroutines or stands in line for one, and
// is answered exactly once: by its handler, or in the handler's place when that
// has not returned some time after the deadline or an interrupt.
//
// The bound is on goroutines, not on requests: how many of those are open is up
// to the kernel and the number of processes.
type tasks struct {
	handle  func(t *task)                   // runs t and calls answered
	fail    func(in []byte, st fuse.Status) // sends an error reply
	flight  *inFlight
	failed  func(op uint32, node uint64, err error)
	maximum int
	timeout time.Duration // from arrival
	grace   time.Duration

	base  context.Context // done when the connection is
	close context.CancelFunc
	wg    sync.WaitGroup
	open  atomic.Int64 // len(byID), to be read without mu

	mu      sync.Mutex
	byID    map[uint64]*task
	line    []*task // waiting for a goroutine, oldest first
	running int

	counts *counters
}

// task is one request that may wait.
type task struct {
	unique uint64
	caller uint32 // thread id, 0 if it is none of this namespace
	held          // the request, own copy
	ctx    context.Context
	cancel context.CancelFunc

	// Guarded by tasks.mu.
	stop    *time.Timer // answers for the handler
	started bool
	late    fuse.Status // what stop answers
	done    bool
	failing bool // somebody answers in the handler's place
	unused  bool // and gives the slot back
}

func newTasks(maximum int, timeout, grace time.Duration, flight *inFlight, c *counters) *tasks {
	t := &tasks{
		flight:  flight,
		maximum: maximum,
		timeout: timeout,
		grace:   grace,
		byID:    make(map[uint64]*task),
		counts:  c,
	}
	t.base, t.close = context.WithCancel(context.Background())
	return t
}

// context returns the context a request is to be answered with.
func (t *tasks) context(unique uint64) context.Context {
	if t.open.Load() == 0 {
		return noWait
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if task := t.byID[unique]; task != nil {
		return task.ctx
	}
	return noWait
}

// add takes over the request in, which is copied.
func (t *tasks) add(in []byte) { t.addHeld(t.flight.hold(in)) }

// addHeld takes over the request in, and its slot. One that is there already,
// which only what another process left can be, is dropped.
func (t *tasks) addHeld(in held) {
	t.counts.waiting.Add(1)
	n := &task{unique: unique(in.in), caller: caller(in.in), held: in, late: fuse.EIO}
	n.ctx, n.cancel = context.WithTimeout(t.base, t.timeout)

	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[n.unique] != nil {
		n.cancel()
		answered(in.in)
		t.flight.release(in)
		return
	}
	n.stop = time.AfterFunc(t.timeout+t.grace, func() { t.giveUp(n) })
	t.byID[n.unique] = n
	t.open.Add(1)
	if t.running < t.maximum {
		t.running++
		t.wg.Add(1)
		go t.work(n)
		return
	}
	t.line = append(t.line, n)
}

// work runs n and then whatever stands in line.
func (t *tasks) work(n *task) {
	defer t.wg.Done()
	panicOnFault()
	for n != nil {
		t.mu.Lock()
		run := !n.done
		n.started = true
		t.mu.Unlock()
		if run {
			t.handle(n)
		}
		t.letGo(n)
		n = t.next()
	}
}

// next takes the oldest task out of the line, or gives the goroutine up.
func (t *tasks) next() *task {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.line) == 0 {
		t.line = nil
		t.running--
		return nil
	}
	n := t.line[0]
	t.line[0] = nil
	t.line = t.line[1:]
	return n
}

// letGo gives n's slot back when its handler is through, or leaves that to who
// is answering in the handler's place.
func (t *tasks) letGo(n *task) {
	t.mu.Lock()
	n.unused = true
	failing := n.failing
	t.mu.Unlock()
	if !failing {
		t.flight.release(n.held)
	}
}

// failLate answers n in its handler's place, unless it has been answered. It
// reports whether it did.
func (t *tasks) failLate(n *task, st fuse.Status) bool {
	t.mu.Lock()
	n.failing = t.finishLocked(n)
	failing := n.failing
	t.mu.Unlock()
	if !failing {
		return false
	}
	t.fail(n.in, st)
	t.mu.Lock()
	n.failing = false
	unused := n.unused
	t.mu.Unlock()
	if unused {
		t.flight.release(n.held)
	}
	return true
}

// finish reports whether n is still to be answered, by the caller if so.
func (t *tasks) finish(n *task) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.finishLocked(n)
}

func (t *tasks) finishLocked(n *task) bool {
	if n.done {
		return false
	}
	n.done = true
	n.stop.Stop()
	n.cancel()
	delete(t.byID, n.unique)
	t.open.Add(-1)
	return true
}

// giveUp answers for a handler that did not honour its context, or for a task
// that never got one.
func (t *tasks) giveUp(n *task) {
	t.mu.Lock()
	late := n.late
	t.mu.Unlock()
	if t.failLate(n, late) {
		t.counts.abandoned.Add(1)
	}
}

// interrupt ends a request whose caller has given up, now or while it still
// waits. It reports whether the request was found.
func (t *tasks) interrupt(unique uint64) bool {
	t.mu.Lock()
	n := t.byID[unique]
	t.mu.Unlock()
	if n == nil {
		return false
	}
	t.look(n)
	return true
}

// look ends n if its caller has given up, or looks again later.
func (t *tasks) look(n *task) {
	t.mu.Lock()
	done := n.done
	t.mu.Unlock()
	switch {
	case done:
	case gaveUp(n.caller):
		t.end(n)
	default:
		time.AfterFunc(callerLook, func() { t.look(n) })
	}
}

// end ends the context of a request, and at once the request if no handler has
// it yet.
func (t *tasks) end(n *task) {
	t.mu.Lock()
	if n.done || n.late == fuse.EINTR {
		t.mu.Unlock()
		return
	}
	t.counts.interrupts.Add(1)
	n.late = fuse.EINTR
	n.cancel()
	queued := !n.started
	if !queued {
		n.stop.Reset(t.grace)
	}
	t.mu.Unlock()
	if queued {
		t.failLate(n, fuse.EINTR)
	}
}

// drain ends all contexts and waits for the handlers, but not for those that
// outlast the grace. It reports whether all have returned.
func (t *tasks) drain() bool {
	t.close()
	all := make(chan struct{})
	go func() {
		t.wg.Wait()
		close(all)
	}()
	wait := time.NewTimer(t.grace)
	defer wait.Stop()
	select {
	case <-all:
		return true
	case <-wait.C:
		return false
	}
}
