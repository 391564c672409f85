package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// download is the body of one blob, resumed where the connection breaks: from
// the byte it broke at where the registry knows ranges, otherwise what was
// delivered is read again and dropped. Whoever reads verifies the whole, so
// that a resumed download may even come from another mirror.
type download struct {
	*registry
	what string // layer or config
	d    v1.Descriptor

	from   *place // of body
	body   io.ReadCloser
	ctx    context.Context //nolint:containedctx // the stream's
	cancel context.CancelFunc
	watch  *time.Timer
	n      int64 // bytes delivered
	at     int64 // byte of the blob that body is at
	tries  int
}

// start makes the first request.
func (d *download) start(ctx context.Context) (io.ReadCloser, error) {
	d.ctx = ctx
	if err := d.request(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *download) request() error {
	return d.try(d.ctx, func(p *place) error {
		ctx, cancel := context.WithCancel(d.ctx)
		// The transport bounds the wait for an answer; the watch is for its body.
		watch := time.AfterFunc(d.options.StallTimeout, cancel)
		watch.Stop()
		resp, at, err := p.blob(ctx, d.d.Digest.String(), d.n, d.d.Size) //nolint:bodyclose // Close does
		if err == nil && at == 0 && resp.StatusCode == http.StatusOK && resp.ContentLength >= 0 && resp.ContentLength < d.n {
			resp.Body.Close() //nolint:errcheck,gosec // shorter than what is there
			err = fmt.Errorf("%w: it has %d bytes there", ErrTruncated, resp.ContentLength)
		}
		if err != nil {
			cancel()
			return p.explain(d.what, d.d.Digest.String(), err)
		}
		d.from, d.body, d.at, d.cancel, d.watch = p, resp.Body, at, cancel, watch
		return nil
	})
}

func (d *download) Read(p []byte) (int, error) {
	for {
		if err := d.skip(); err == nil {
			d.watch.Reset(d.options.StallTimeout) // around Read only: a slow reader is no stall
			n, err := d.body.Read(p)
			d.watch.Stop()
			d.n += int64(n)
			d.at = d.n
			switch {
			case err == nil || d.n >= d.d.Size && errors.Is(err, io.EOF):
				return n, err
			case d.ctx.Err() != nil:
				return n, d.ctx.Err()
			case n > 0:
				return n, nil // whatever it is, the next Read meets it again
			}
		} else if d.ctx.Err() != nil {
			return 0, d.ctx.Err()
		}
		if d.tries >= d.options.Retries {
			return 0, fmt.Errorf("%w: registry %s stopped after %d of %d bytes; try again later", ErrTruncated, d.from.registry, d.n, d.d.Size)
		}
		if err := d.resume(); err != nil {
			return 0, err
		}
	}
}

// skip reads what was delivered already and has come again.
func (d *download) skip() error {
	buf := make([]byte, min(bufBytes, d.n-d.at))
	for d.at < d.n {
		d.watch.Reset(d.options.StallTimeout)
		n, err := d.body.Read(buf[:min(d.n-d.at, int64(len(buf)))])
		d.watch.Stop()
		if d.at += int64(n); err != nil && d.at < d.n {
			return err
		}
	}
	return nil
}

// resume waits and asks again.
func (d *download) resume() error {
	d.body.Close() //nolint:errcheck,gosec // broken already
	d.cancel()
	select {
	case <-time.After(d.options.RetryDelay << d.tries):
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
	d.tries++
	return d.request()
}

func (d *download) Close() error {
	d.watch.Stop()
	err := d.body.Close()
	d.cancel()
	if err != nil && d.n < d.d.Size {
		return nil // given up on the way
	}
	return err
}
