package fetch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// Sink takes an object's plain bytes and can forget them, since only the end
// of a transfer tells whether they were right.
type Sink interface {
	io.Writer
	// Reset drops everything written.
	Reset() error
}

// Object fetches the object of want.Hash, decodes it into dst and verifies
// hash, size and coding on the way, as [Verified] does.
func Object(ctx context.Context, f Fetcher, t object.Type, want codec.Expect, dst Sink) error {
	return Verified(ctx, f, object.Path(want.Hash, t), Options{}, want, dst)
}

// Verified fetches a file that may lie at any path but must turn out to be
// what want says. A corrupt copy is asked for once more past the caches of
// proxies, then of each further server (CVMFS-FORMAT 6.3). dst is valid only
// if the error is nil; an error of dst itself is returned as it is.
func Verified(ctx context.Context, f Fetcher, path string, o Options, want codec.Expect, dst Sink) error {
	o.Shard = binary.LittleEndian.Uint64(want.Hash.Digest[:])
	sources := alternatives(f)
	sink := &sinkWriter{Sink: dst}
	broken := 0
	for {
		opened, err := object1(ctx, f, path, o, want, sink)
		switch {
		case err == nil:
			return nil
		case sink.err != nil:
			return sink.err
		case !opened || ctx.Err() != nil:
			return fmt.Errorf("fetch %s: %w", path, err)
		case isTransfer(err):
			// Whoever broke off has been moved to the end of the order.
			if broken++; broken > sources {
				return fmt.Errorf("fetch %s: %w", path, err)
			}
		case !o.NoCache:
			noteCorrupt(f)
			o.NoCache = true
		default:
			noteCorrupt(f)
			if o.Skip++; o.Skip >= sources {
				return fmt.Errorf("fetch %s: %w: %w", path, ErrCorrupt, err)
			}
		}
		if err := dst.Reset(); err != nil {
			return err
		}
	}
}

func noteCorrupt(f Fetcher) {
	if c, ok := f.(corruptions); ok {
		c.corrupt()
	}
}

// object1 makes one attempt. opened tells whether a body was received.
func object1(ctx context.Context, f Fetcher, path string, o Options, want codec.Expect, dst io.Writer) (opened bool, err error) {
	body, err := f.Fetch(ctx, path, o)
	if err != nil {
		return false, err
	}
	_, err = codec.Decode(dst, &capped{in: body, left: storedBound(want)}, want)
	if cerr := body.Close(); err == nil && cerr != nil {
		err = &Error{Kind: ErrUnavailable, Server: path, Cause: cerr}
	}
	return true, err
}

// storedBound is more than any sane encoding of what is expected takes. It
// ends a stream that goes on for ever without decoding to anything.
func storedBound(want codec.Expect) int64 {
	plain := want.Limit
	if want.Size >= 0 {
		plain = want.Size
	}
	return plain + plain/4 + 64<<10
}

func isTransfer(err error) bool {
	var e *Error
	return errors.As(err, &e)
}

// capped ends a body that is longer than its object can be.
type capped struct {
	in   io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("%w: more stored bytes than its size allows", codec.ErrCorrupt)
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// sinkWriter remembers an error of the sink, to tell it from one of the
// source whatever the decoder between them wraps it in.
type sinkWriter struct {
	Sink
	err error
}

func (s *sinkWriter) Write(p []byte) (int, error) {
	n, err := s.Sink.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// ReadAll fetches a root file of at most limit bytes, asking the next source
// when a body breaks off. Nothing of it is verified.
func ReadAll(ctx context.Context, f Fetcher, path string, o Options, limit int64) (data []byte, etag string, err error) {
	for try := 0; ; try++ {
		data, etag, err = readAll(ctx, f, path, o, limit)
		if err == nil {
			return data, etag, nil
		}
		var broken *brokenBody
		if !errors.As(err, &broken) || ctx.Err() != nil || try >= alternatives(f) {
			return nil, "", fmt.Errorf("fetch %s: %w", path, err)
		}
	}
}

type brokenBody struct{ error }

func (b *brokenBody) Unwrap() error { return b.error }

func readAll(ctx context.Context, f Fetcher, path string, o Options, limit int64) ([]byte, string, error) {
	body, err := f.Fetch(ctx, path, o)
	if err != nil {
		return nil, "", err
	}
	defer body.Close() //nolint:errcheck // everything wanted has been read
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, "", &brokenBody{err}
	}
	if int64(len(data)) > limit {
		return nil, "", fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return data, ETag(body), nil
}
