package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// guard lets requests pass to where they may go. The client library falls back
// to plain HTTP for private addresses by itself, and a registry may redirect
// anywhere: nothing is ever sent without TLS to a host the operator did not
// list.
//
// A host that says when to come again (429 or 503 with Retry-After) is sent
// nothing until then, in this or any other request, for as long as patience at
// the most.
type guard struct {
	inner    http.RoundTripper
	plain    []string
	patience time.Duration

	mu    sync.Mutex
	again map[string]time.Time // by host
}

func newTransport(o Options) http.RoundTripper {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: o.StallTimeout,
		DisableCompression:    true, // digests are of the bytes as stored
	}
	return &guard{inner: t, plain: o.PlainHTTP, patience: o.StallTimeout, again: map[string]time.Time{}}
}

// RoundTrip implements [http.RoundTripper].
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !slices.Contains(g.plain, r.URL.Host) {
		return nil, &plainHTTPError{r.URL.Host}
	}
	if err := g.wait(r.Context(), r.URL.Host); err != nil {
		return nil, err
	}
	resp, err := g.inner.RoundTrip(r)
	if err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) {
		if d := min(retryAfter(resp.Header), g.patience); d > 0 {
			g.mu.Lock()
			g.again[r.URL.Host] = time.Now().Add(d)
			g.mu.Unlock()
		}
	}
	if err == nil && isSmall(r.URL.Path) {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{&capped{resp.Body, maxManifest}, resp.Body}
	}
	return resp, err
}

// isSmall reports whether what is asked for is read into memory by the client
// library, which does not bound it: a manifest, or a page of names.
func isSmall(path string) bool {
	return strings.Contains(path, "/manifests/") || strings.HasSuffix(path, "/tags/list") || strings.HasSuffix(path, "/_catalog")
}

// wait waits until a host may be asked again. The usual wait between retries
// goes on at the same time.
func (g *guard) wait(ctx context.Context, host string) error {
	g.mu.Lock()
	d := time.Until(g.again[host])
	g.mu.Unlock()
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAfter is for how long a host wants not to be asked, in seconds or until
// a date of its own clock (RFC 9110 10.2.3); 0 if it does not say.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second // #nosec G115 -- 31 bits
	}
	until, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return until.Sub(now)
}

type plainHTTPError struct{ host string }

func (e *plainHTTPError) Error() string {
	return fmt.Sprintf("%s to %s; allow it with --plain-http %s if the network can be trusted", ErrPlainHTTP, e.host, e.host)
}

func (e *plainHTTPError) Unwrap() error { return ErrPlainHTTP }

// capped fails where a limited reader would pretend an end.
type capped struct {
	in   io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, fmt.Errorf("%w: a manifest or list of more than %d bytes", ErrTooLarge, maxManifest)
	}
	return n, err
}

// worthRetrying says whether a second request may fare better: after 5xx, 429
// and a connection that failed, not after a refusal.
func worthRetrying(err error) bool {
	var status *transport.Error
	if errors.As(err, &status) {
		return slices.Contains(retryCodes, status.StatusCode)
	}
	if errors.Is(err, ErrPlainHTTP) || errors.Is(err, context.Canceled) {
		return false
	}
	for _, e := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		syscall.EPIPE, syscall.ECONNRESET, syscall.ECONNREFUSED,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return isTimeout(err) && err != context.DeadlineExceeded //nolint:errorlint // the transport's own timeouts say that they are it
}

// explain says what a failed request means to an operator. what and id name
// what was asked for.
func (p *place) explain(what, id string, err error) error {
	var status *transport.Error
	var plainOnly *plainHTTPError
	switch {
	case errors.As(err, &status):
		return p.explainStatus(what, id, status)
	case isTimeout(err):
		return fmt.Errorf("%s %s: %w: registry %s sent nothing for %s; try again later", what, id, ErrTruncated, p.registry, p.options.StallTimeout)
	case errors.As(err, &plainOnly):
		return fmt.Errorf("%s %s: registry %s did not answer over TLS: %w (%w)", what, id, p.registry, plainOnly, err)
	}
	return fmt.Errorf("%s %s from registry %s: %w", what, id, p.registry, err)
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func (p *place) explainStatus(what, id string, status *transport.Error) error {
	switch code := status.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Errorf("%w: registry %s refuses %s %s (%d): log in (docker login %s) or pass --username; some registries answer so too where there is no such image",
			ErrRefused, p.registry, what, id, code, p.registry)
	case code == http.StatusNotFound:
		return fmt.Errorf("%w: registry %s has no %s %s", ErrNotFound, p.registry, what, id)
	case code == http.StatusTooManyRequests:
		return fmt.Errorf("%w: registry %s answers %s %s with 429, too many requests, after %d tries: log in, wait, or name a --mirror",
			ErrRefused, p.registry, what, id, p.options.Retries+1)
	case code >= http.StatusInternalServerError:
		return fmt.Errorf("%s %s: registry %s fails (%d %s) after %d tries; try again later: %w",
			what, id, p.registry, code, http.StatusText(code), p.options.Retries+1, status)
	}
	return fmt.Errorf("%s %s from registry %s: %w", what, id, p.registry, status)
}
