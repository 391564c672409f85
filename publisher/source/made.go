package source

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
)

// made is a layer of something that is no tar: one is written while it is read.
type made struct {
	what string // for messages
	// write writes the entries, the same ones in the same order each time.
	write func(context.Context, *tar.Writer) error
	// learned, if not nil, is called with the tar's digest whenever a
	// reading has ended well, and may still refuse it.
	learned func(got) error

	size int64 // about how long the tar is, in bytes; -1 if unknown

	mu       sync.Mutex // guards what follows
	diffID   string
	progress *Progress // of readings; may be nil
}

// DiffID implements [Layer].
func (m *made) DiffID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.diffID
}

// String names the layer in messages.
func (m *made) String() string { return m.what }

// Open implements [Layer].
func (m *made) Open(ctx context.Context) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	m.mu.Lock()
	in := m.progress.of(r)
	m.mu.Unlock()
	s := &making{Reader: bufio.NewReaderSize(in, bufBytes), pipe: r, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		w.CloseWithError(m.run(ctx, w)) //nolint:errcheck // never fails
	}()
	return s, nil
}

// run writes the tar to w. Its error, or none, is what the reader gets.
func (m *made) run(ctx context.Context, w io.Writer) error {
	hash := sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(w, hash), bufBytes)
	t := tar.NewWriter(buf)
	err := m.write(ctx, t)
	if err == nil {
		err = t.Close()
	}
	if err == nil {
		err = buf.Flush()
	}
	if err == nil {
		err = m.keep(got{digest: sum(hash), diffID: sum(hash)})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.what, err)
	}
	return nil
}

func (m *made) keep(g got) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.diffID != "" && m.diffID != g.diffID {
		return fmt.Errorf("%w: it changed between two readings", ErrDigest)
	}
	if m.learned != nil {
		if err := m.learned(g); err != nil {
			return err
		}
	}
	m.diffID = g.diffID
	return nil
}

// making is a reading of a made layer.
type making struct {
	*bufio.Reader
	pipe   *io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (s *making) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // the pipe says io.EOF as it is
		s.err = err
	}
	return n, err
}

// Close ends the writer, waits for it, and repeats the error that Read returned
// in io.EOF's place.
func (s *making) Close() error {
	s.cancel()
	s.pipe.Close() //nolint:errcheck // never fails
	<-s.done
	return s.err
}
