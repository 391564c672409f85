package flatten

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
)

// scan is one layer's entries, in the order of its tar.
type scan struct {
	name    string // for messages
	proved  bool   // a digest vouches for the stream being whole
	number  int32  // of the layer, lowest 0
	records []record

	read      int // tar entries
	notes     []Note
	moreNotes int
	recalled  bool // the Memory has all that is here
}

func (s *scan) note(path, text string) {
	if len(s.notes) >= maxNotes {
		s.moreNotes++
		return
	}
	s.notes = append(s.notes, Note{s.name, path, text})
}

func layerName(l any, i int) string {
	switch l := l.(type) {
	case fmt.Stringer:
		return l.String()
	case interface{ DiffID() string }:
		if id := l.DiffID(); id != "" {
			return "layer " + id
		}
	}
	return fmt.Sprintf("layer %d", i+1)
}

func isProved(l any) bool {
	d, ok := l.(interface{ DiffID() string })
	return ok && d.DiffID() != ""
}

// walk calls visit for every tar entry with its number and a reader of its
// content. It reads the stream to its very end, where a layer proves itself.
func (s *scan) walk(ctx context.Context, l Layer, visit func(n int, h *tar.Header, content io.Reader) error) (err error) {
	in, err := l.Open(ctx)
	if err != nil {
		return s.wrap(err)
	}
	defer func() {
		if cerr := in.Close(); err == nil && cerr != nil {
			err = s.wrap(cerr)
		}
	}()
	src := &tape{in: in}
	t := tar.NewReader(src)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return s.wrap(err)
		}
		src.zero = false // a content of one zero block is no mark
		h, err := t.Next()
		if errors.Is(err, io.EOF) && src.err == nil {
			return s.finish(src, n)
		}
		if err != nil {
			return s.broken(src, n, err)
		}
		content := &exact{in: t}
		if err := visit(n, h, content); err != nil {
			if content.err != nil {
				return s.broken(src, n, content.err)
			}
			return s.wrap(fmt.Errorf("%q: %w", h.Name, err))
		}
	}
}

// finish judges the end of the tar after n entries and drains what follows.
func (s *scan) finish(src *tape, n int) error {
	if !src.zero && (n == 0 || !s.proved) {
		if src.n == 0 && s.proved {
			return nil // a layer of no bytes whose digest says so
		}
		if n == 0 {
			return s.wrap(fmt.Errorf("%w: it is empty", ErrFormat))
		}
		return s.wrap(fmt.Errorf("%w after %d entries, without the mark of its end; make or copy it again", ErrTruncated, n))
	}
	if _, err := io.Copy(io.Discard, src.in); err != nil {
		return s.wrap(err)
	}
	return nil
}

// broken explains why entry n could not be read: the layer's own stream failed,
// or what it gave is no tar.
func (s *scan) broken(src *tape, n int, err error) error {
	switch {
	case src.err != nil:
		return s.wrap(fmt.Errorf("after %d entries: %w", n, src.err))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return s.wrap(fmt.Errorf("%w after %d entries; make or copy it again", ErrTruncated, n))
	case n == 0:
		return s.wrap(fmt.Errorf("%w: %w", ErrFormat, err))
	}
	return s.wrap(fmt.Errorf("%w: damaged after %d entries: %w", ErrFormat, n, err))
}

// wrap puts the layer's name in front of an error that does not begin with it.
func (s *scan) wrap(err error) error {
	if m := err.Error(); len(m) >= len(s.name) && m[:len(s.name)] == s.name {
		return err
	}
	return fmt.Errorf("%s: %w", s.name, err)
}

const headerSize = 512

// tape is a layer's stream as the tar reader sees it. It keeps an error of the
// stream, and remembers whether the last block read alone was zero, which is
// how a tar marks its end.
type tape struct {
	in   io.Reader
	n    int64
	err  error
	zero bool
}

func (t *tape) Read(p []byte) (n int, err error) {
	if len(p) == headerSize {
		if n, err = io.ReadFull(t.in, p); err == io.ErrUnexpectedEOF && n > 0 { //nolint:errorlint // ReadFull's own, not the layer's
			err = nil // short: the next Read tells why
		}
	} else {
		n, err = t.in.Read(p)
	}
	t.n += int64(n)
	if n > 0 {
		t.zero = n == headerSize && len(p) == headerSize && [headerSize]byte(p) == [headerSize]byte{}
	}
	if err != nil && err != io.EOF { //nolint:errorlint // a layer that ends early wraps io.EOF
		t.err = err
	}
	return n, err
}

// exact counts what an ingester takes of a content and keeps the error it met.
type exact struct {
	in  io.Reader
	n   int64
	err error
}

func (e *exact) Read(p []byte) (int, error) {
	n, err := e.in.Read(p)
	e.n += int64(n)
	if err != nil && err != io.EOF { //nolint:errorlint // the tar reader says io.EOF as it is
		e.err = err
	}
	return n, err
}
