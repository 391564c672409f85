package wish_test

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/wish"
)

// publisher keeps what it is told.
type publisher struct {
	mu     sync.Mutex
	status int
	told   []string
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	p.told = append(p.told, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+r.Header.Get("Content-Type")+" "+string(body))
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(p.status)
}

func (p *publisher) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.told)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWish(t *testing.T) {
	p := &publisher{status: http.StatusAccepted}
	server := httptest.NewTLSServer(p)
	defer server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	s := &wish.Sender{Log: slog.New(slog.DiscardHandler)}
	r := control.WishRequest{URL: server.URL + "/wishes", CA: ca, Token: "secret", Image: "docker.io/library/busybox:1"}
	must(t, s.Wish(t.Context(), r))
	s.Wait()
	want := []string{`POST /wishes Bearer secret application/json {"message_type":"wish","image":"docker.io/library/busybox:1"}`}
	if got := p.heard(); !slices.Equal(got, want) {
		t.Errorf("the publisher was told %q, want %q", got, want)
	}
	// Without the certificate nothing is told.
	r.CA, r.Image = "", "docker.io/library/other:1"
	must(t, s.Wish(t.Context(), r))
	s.Wait()
	if got := p.heard(); len(got) != 1 {
		t.Errorf("the publisher was told %q", got)
	}
}

// A publisher that lets in only who has a certificate is shown the cell's.
func TestCertificate(t *testing.T) {
	p := &publisher{status: http.StatusAccepted}
	server := httptest.NewUnstartedServer(p)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	for i, shown := range [][]tls.Certificate{nil, server.TLS.Certificates} {
		s := &wish.Sender{Log: slog.New(slog.DiscardHandler), Certificates: shown}
		must(t, s.Wish(t.Context(), control.WishRequest{URL: server.URL, CA: ca, Image: "docker.io/library/busybox:1"}))
		s.Wait()
		if got := p.heard(); len(got) != i {
			t.Errorf("with %d certificates the publisher was told %q", len(shown), got)
		}
	}
}

// A wish is sent again after an hour, or a minute if the publisher has not
// heard of it; a refusal counts as heard, a redirect as not.
func TestAgain(t *testing.T) {
	for status, pause := range map[int]time.Duration{
		http.StatusOK: wish.Pause, http.StatusAccepted: wish.Pause, http.StatusForbidden: wish.Pause,
		http.StatusServiceUnavailable: wish.Retry, http.StatusTooManyRequests: wish.Retry, http.StatusTemporaryRedirect: wish.Retry,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			p := &publisher{status: status}
			server := httptest.NewServer(p)
			defer server.Close()
			now := time.Unix(1e9, 0)
			s := &wish.Sender{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
			r := control.WishRequest{URL: server.URL, Image: "docker.io/library/busybox:1"}
			for _, step := range []struct {
				later time.Duration
				told  int
			}{{0, 1}, {0, 1}, {pause - time.Second, 1}, {time.Second, 2}} {
				now = now.Add(step.later)
				must(t, s.Wish(t.Context(), r))
				s.Wait()
				if got := p.heard(); len(got) != step.told {
					t.Errorf("told %d times, want %d: %q", len(got), step.told, got)
				}
			}
			r.Image = "docker.io/library/other:1"
			must(t, s.Wish(t.Context(), r))
			s.Wait()
			if got := p.heard(); len(got) != 3 {
				t.Errorf("another image: %q", got)
			}
		})
	}
}

// A publisher that does not answer is asked by few at a time, and nobody waits
// for it.
func TestSlow(t *testing.T) {
	hold, arrived := make(chan struct{}), make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-hold }))
	defer server.Close()
	s := &wish.Sender{Log: slog.New(slog.DiscardHandler)}
	for i := range 100 {
		must(t, s.Wish(t.Context(), control.WishRequest{URL: server.URL, Image: fmt.Sprintf("docker.io/library/i%d:1", i)}))
	}
	close(hold)
	s.Wait()
	if n := len(arrived); n != 4 {
		t.Errorf("%d wishes arrived, want 4", n)
	}
}

func TestRefuses(t *testing.T) {
	s := &wish.Sender{Log: slog.New(slog.DiscardHandler)}
	for _, r := range []control.WishRequest{
		{URL: "", Image: "x"},
		{URL: "file:///etc/passwd", Image: "x"},
		{URL: "http://", Image: "x"},
		{URL: "http://x", Image: ""},
		{URL: "http://x", Image: "x", Token: "a\r\nb"},
		{URL: "http://x", Image: string(make([]byte, 2000))},
	} {
		if err := s.Wish(t.Context(), r); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("%+.50v: %v", r, err)
		}
	}
}
