package source

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
)

// blob is compressed bytes that can be read again.
type blob interface {
	// open begins at the first byte. The caller closes the stream.
	open(ctx context.Context) (io.ReadCloser, error)
}

// want is what a stream must prove to be. Empty fields promise nothing.
type want struct {
	digest  string // of the compressed bytes, sha256:<hex>
	size    int64  // of the compressed bytes; -1 if unknown
	diffID  string // of the uncompressed bytes
	allowXZ bool
}

// got is what a stream was, filled in before it ends with io.EOF.
type got struct{ digest, diffID string }

// budget counts the uncompressed bytes of all layers of a source. Each layer
// counts once however often it is read.
type budget struct {
	max  int64
	used atomic.Int64
}

const (
	chunkBytes = 256 << 10 // a multiple of tar's block size
	readAhead  = 4         // chunks
)

// stream decodes a blob in a goroutine, readAhead chunks before its reader.
//
// Only the reader touches cur, err and whole; the goroutine hands results over
// through full and, once that is closed, through end and seen.
type stream struct {
	full   chan []byte
	free   chan []byte
	cancel context.CancelFunc
	end    error // set before full is closed
	seen   got   // set before full is closed
	onEOF  func(got) error
	what   string // names the layer in errors

	cur   []byte // unread part of whole
	whole []byte
	err   error
	once  sync.Once
}

// reading is one pass over a blob: what it must be, and its limits.
type reading struct {
	blob     blob
	want     want
	budget   *budget
	maxRatio int64
	counted  *atomic.Int64 // bytes of this layer that budget knows of
	progress *Progress     // of readings; may be nil
}

// open begins the pass. onEOF, if not nil, may still refuse what was read.
func (r reading) open(ctx context.Context, onEOF func(got) error) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	in, err := r.blob.open(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &stream{
		full: make(chan []byte, readAhead), free: make(chan []byte, readAhead+1),
		cancel: cancel, onEOF: onEOF,
	}
	go func() {
		defer close(s.full)
		s.seen, s.end = r.run(ctx, in, s)
		if err := in.Close(); s.end == nil && err != nil {
			s.end = err
		}
	}()
	return s, nil
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.cur) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if s.whole != nil {
			s.free <- s.whole[:cap(s.whole)] // never blocks: there are no more chunks than room
			s.whole = nil
		}
		b, ok := <-s.full
		if !ok {
			s.err = s.end
			if s.err == nil && s.onEOF != nil {
				s.err = s.onEOF(s.seen)
			}
			if s.err == nil {
				s.err = io.EOF
			} else {
				s.err = fmt.Errorf("%s: %w", s.what, s.err)
			}
			return 0, s.err
		}
		s.cur, s.whole = b, b
	}
	n := copy(p, s.cur)
	s.cur = s.cur[n:]
	return n, nil
}

// Close stops the goroutine, waits for it, and repeats the error that Read
// returned in io.EOF's place.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.cancel()
		for range s.full { //nolint:revive // draining is the point
		}
	})
	s.cur = nil
	if s.err == nil {
		s.err = errClosed
	}
	if s.err == io.EOF || s.err == errClosed { //nolint:errorlint // a truncated input wraps io.EOF and is an error
		return nil
	}
	return s.err
}

var errClosed = errors.New("read of a closed layer")

// sum is the text form of a running SHA-256.
func sum(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }
