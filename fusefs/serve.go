package fusefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Serve answers requests until the file system is unmounted, by anyone, or
// until ctx is done, whereupon it unmounts it or, with [Options].Keep, leaves
// it. It is called once. When it returns, no method of the FS is running but
// such as have outlived their deadline, and the device is closed.
func (c *Conn) Serve(ctx context.Context) error {
	defer close(c.done)
	if err := c.takeOver(); err != nil {
		return errors.Join(err, c.closeDevice())
	}
	served := make(chan struct{})
	var unmount sync.WaitGroup
	unmount.Go(func() {
		select {
		case <-ctx.Done():
			if c.opts.Keep {
				c.leave()
				return
			}
			if err := c.Unmount(context.WithoutCancel(ctx)); err != nil {
				c.log.Error("cannot unmount", slog.Any("err", err))
			}
		case <-served:
		}
	})

	ends := make([]error, c.opts.Readers)
	var readers sync.WaitGroup
	for i := range ends {
		readers.Go(func() { ends[i] = c.read(c.flight.reader(i)) })
	}
	var errs []error
	go func() {
		readers.Wait()
		close(served)
	}()
	select {
	case <-served:
		errs = append(errs, ends...)
	case <-c.left: // readers that wait for a request cannot be woken
	}
	c.asides.Wait() // these may add tasks
	if !c.tasks.drain() {
		c.log.Warn("requests still running at the end of the mount", slog.String("mountpoint", c.mountpoint))
	} else if !c.leaving.Load() {
		errs = append(errs, c.flight.unmap())
	}
	unmount.Wait()
	return errors.Join(append(errs, c.closeDevice())...)
}

// reader is the state of one thread of the read loop.
type reader struct {
	in, out   []byte
	inv, outv [1][]byte // what HandleRequest takes
}

// read takes requests from the device until there is no more file system. It
// stays on one thread: a switch of threads per request costs half the speed.
func (c *Conn) read(in []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	panicOnFault()
	r := reader{in: in, out: make([]byte, replyRoom+c.opts.MaxRead)}
	failures := 0
	for {
		c.idle.Add(1)
		if c.leaving.Load() {
			return nil
		}
		answered(r.in)
		n, err := unix.Read(c.fd, r.in)
		if c.leaving.Load() {
			return nil // what was read is the next process's
		}
		c.idle.Add(-1)
		switch {
		case err == nil:
			failures = 0
			c.request(&r, n)
		case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ECONNABORTED):
			return nil
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			// The request was withdrawn before we had it, or a signal came.
		default:
			// One request was lost, which its caller has been told. Only
			// a device that yields nothing else is the end.
			if failures++; failures > 100 {
				return fmt.Errorf("read %s for %s: %w", devicePath, c.mountpoint, err)
			}
			c.log.Warn("request lost", slog.Any("err", err))
			time.Sleep(time.Millisecond)
		}
	}
}

// panicOnFault makes of a fault in mapped memory, whose file was truncated or
// sits on a broken disk, a panic of the goroutine: EIO for one caller instead of
// the end of the process and of all mounts.
func panicOnFault() { debug.SetPanicOnFault(true) }

// request answers the request of n bytes in r.in, or passes it on.
func (c *Conn) request(r *reader, n int) {
	in := r.in[:n]
	if n < inHeaderSize {
		c.log.Warn("request too short", slog.Int("bytes", n))
		return
	}
	op := opcode(in)
	switch op {
	case opForget, opBatchForget:
		c.counts.forgets.Add(1)
		return
	case opInterrupt:
		c.interrupt(in)
		return
	}
	c.counts.requests.Add(1)
	if nodeID(in) == RootID {
		setNodeID(in, rootAlias)
	}
	// A READ from a local file may wait for the disk, which a context cannot
	// tell: in this thread only while another is there for the others, or
	// where so many wait for the disk already that no more should be let in.
	// It must not stand in line behind those who wait for a network.
	if op == opRead && c.idle.Load() == 0 && c.aside(in) {
		return
	}
	c.now(in, r.out, r.inv[:], r.outv[:])
}

// aside has a request answered by a goroutine, as far as that can be done without
// waiting for a network. It reports whether there was one to spare.
func (c *Conn) aside(in []byte) bool {
	select {
	case c.disk <- struct{}{}:
	default:
		return false
	}
	h := c.flight.hold(in)
	c.asides.Go(func() {
		panicOnFault()
		defer func() { <-c.disk }()
		buf := c.buffers.get(payload(h.in))
		defer c.buffers.put(buf)
		c.now(h.in, *buf, make([][]byte, 1), make([][]byte, 1))
		c.flight.release(h)
	})
	return true
}

// now answers a request with a context that may not wait, or passes it on to
// where it may. inv and outv are space for HandleRequest's arguments.
func (c *Conn) now(in, out []byte, inv, outv [][]byte) {
	inv[0], outv[0] = in, out
	n, st := c.server.HandleRequest(inv, outv)
	switch {
	case !st.Ok():
		c.replyError(in, fuse.EIO)
	case n == 0:
		answered(in) // a message without a reply
	case replyStatus(out) == undecided:
		c.tasks.add(in)
		answered(in)
	default:
		c.reply(in, out[:n])
	}
}

// handleTask answers a request that may wait.
func (c *Conn) handleTask(t *task) {
	buf := c.buffers.get(payload(t.in))
	defer c.buffers.put(buf)
	n, st := c.server.HandleRequest([][]byte{t.in}, [][]byte{*buf})
	if !c.tasks.finish(t) {
		return
	}
	switch {
	case !st.Ok():
		c.replyError(t.in, fuse.EIO)
	case n > 0:
		c.reply(t.in, (*buf)[:n])
	}
}

// interrupt passes on that a request's caller no longer waits. A request that is
// not known is answered already, or another reader is about to register it: the
// kernel is asked to say it again, and does not if there is an answer.
func (c *Conn) interrupt(in []byte) {
	if len(in) < inHeaderSize+8 {
		c.log.Warn("interrupt too short", slog.Int("bytes", len(in)))
		return
	}
	if !c.tasks.interrupt(interrupted(in)) {
		c.replyError(in, fuse.EAGAIN)
	}
}

func (c *Conn) replyError(in []byte, st fuse.Status) {
	var out [outHeaderSize]byte
	header(out[:], len(out), -int32(st), unique(in))
	c.reply(in, out[:])
}

// reply sends the answer to in, which then is no longer in flight. ENOENT says
// that no one waits for it any more, ENODEV that there is no file system any more.
//
// Who leaves the mount to another process leaves to it, too, what could not be
// answered, since that may be for no other reason.
func (c *Conn) reply(in, out []byte) {
	if c.leaving.Load() && replyStatus(out) != fuse.OK {
		return
	}
	err := c.write(out)
	answered(in)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		c.log.Warn("reply not accepted", slog.Int("bytes", len(out)),
			slog.Int("status", int(replyStatus(out))), slog.Any("err", err))
	}
}
