package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// spool is a blob of a registry that is downloaded once: the first complete
// reading writes it to a temporary file, later ones read that file. Only bytes
// that the digest has proved are ever read a second time.
type spool struct {
	from *registry
	d    v1.Descriptor
	dir  string

	mu   sync.Mutex // guards file
	file string     // "" until a reading was complete
}

func (s *spool) open(ctx context.Context) (io.ReadCloser, error) {
	s.mu.Lock()
	file := s.file
	s.mu.Unlock()
	if file != "" {
		return fileBlob{path: file, size: -1}.open(ctx)
	}
	in, err := (&download{registry: s.from, what: "layer", d: s.d}).start(ctx)
	if err != nil {
		return nil, err
	}
	out, err := os.CreateTemp(s.dir, "rootstock-layer-*")
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return &spooling{spool: s, in: in, out: out, hash: sha256.New()}, nil
}

// keep makes a complete file the one to read from now on.
func (s *spool) keep(file string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != "" { // another reading was first
		return os.Remove(file)
	}
	s.file = file
	return nil
}

func (s *spool) remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == "" {
		return nil
	}
	err := os.Remove(s.file)
	s.file = ""
	return err
}

// spooling is a download on its way into the temporary file.
type spooling struct {
	*spool
	in     io.ReadCloser
	out    *os.File
	hash   hash.Hash
	n      int64
	failed bool // the file is not the whole blob and never will be
}

func (s *spooling) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	if s.n += int64(n); s.n > s.d.Size {
		s.failed = true // the reader refuses it; the disk need not hold it
	}
	s.hash.Write(p[:n]) //nolint:errcheck // a hash.Hash never fails
	if n > 0 && !s.failed {
		if _, werr := s.out.Write(p[:n]); werr != nil {
			s.failed = true
			return n, fmt.Errorf("spool to %s: %w; name a directory with more room", s.out.Name(), werr)
		}
	}
	return n, err
}

func (s *spooling) Close() error {
	err := s.in.Close()
	werr := s.out.Close()
	if !s.failed && err == nil && werr == nil && s.n == s.d.Size && sum(s.hash) == s.d.Digest.String() {
		return s.keep(s.out.Name())
	}
	return errors.Join(err, os.Remove(s.out.Name()))
}
