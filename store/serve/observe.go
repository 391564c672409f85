package serve

import (
	"io"
	"net/http"
	"time"
)

// observe counts and logs what h answers.
func (s *Site) observe(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		seen := &seen{ResponseWriter: w}
		defer func() {
			broken := recover()
			took := time.Since(began)
			if s.Metrics != nil {
				s.Metrics.request(s.repositoryOf(r.URL.Path), seen, took)
			}
			if s.Access != nil {
				s.Access.line(entryOf(r, seen, began, took))
			}
			if broken != nil {
				panic(broken) // http.ErrAbortHandler: the client must not take a part for the whole
			}
		}()
		if s.Metrics != nil {
			s.Metrics.open.Inc()
			defer s.Metrics.open.Dec()
		}
		h.ServeHTTP(seen, r)
	})
}

// seen is a response whose status and size are noted. It keeps what makes
// sendfile work.
type seen struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (s *seen) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *seen) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *seen) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	n, err := s.ResponseWriter.Write(p)
	s.bytes += int64(n)
	return n, err
}

func (s *seen) ReadFrom(r io.Reader) (int64, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	n, err := io.Copy(s.ResponseWriter, r)
	s.bytes += n
	return n, err
}

// code is the status that was sent; net/http sends 200 where a handler said
// nothing.
func (s *seen) code() int {
	if s.status == 0 {
		return http.StatusOK
	}
	return s.status
}
