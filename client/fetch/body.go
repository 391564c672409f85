package fetch

import (
	"context"
	"errors"
	"io"
	"time"
)

// body is a response that watches its own pace. Only time spent waiting for
// the network counts: a reader that is slow itself stalls nothing.
type body struct {
	h      *HTTP
	ctx    context.Context // the caller's
	inner  context.Context // the request's, which cancel ends
	cancel context.CancelCauseFunc
	in     io.ReadCloser
	etag   string

	window time.Duration // over which the low speed limit is judged
	waited time.Duration // in this window
	got    int64         // bytes in this window
	timer  *time.Timer   // ends a single wait that never returns
	err    error         // sticky
}

func (b *body) ETag() string { return b.etag }

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.start()
	start := time.Now()
	n, err := b.in.Read(p)
	b.timer.Stop()
	took := time.Since(start)
	b.waited += took
	b.got += int64(n)
	b.h.o.Counters.received(n, took)
	switch {
	case errors.Is(err, io.EOF):
		b.err = io.EOF
	case err != nil && errors.Is(context.Cause(b.inner), ErrTimeout):
		b.err = b.h.failed(b.ctx, ErrTimeout)
	case err != nil:
		b.err = b.h.failed(b.ctx, err)
	case b.waited >= b.window:
		if float64(b.got) < float64(b.h.o.LowSpeed)*b.waited.Seconds() {
			b.err = b.h.failed(b.ctx, ErrTimeout)
		}
		b.waited, b.got = 0, 0
	}
	return n, b.err
}

// start ends the request unless it goes on in time.
func (b *body) start() {
	if b.timer == nil {
		b.timer = time.AfterFunc(b.window, func() { b.cancel(ErrTimeout) })
	} else {
		b.timer.Reset(b.window)
	}
}

func (b *body) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
	b.cancel(nil)
}

func (b *body) Close() error {
	err := b.in.Close()
	b.stop()
	return err
}

// watched tells a decorator that the body it handed out broke off.
type watched struct {
	io.ReadCloser
	failed func(error)
}

func (w *watched) ETag() string { return ETag(w.ReadCloser) }

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && w.failed != nil {
		w.failed(err)
		w.failed = nil
	}
	return n, err
}
