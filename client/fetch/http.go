package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// HTTPOptions configure one way to one server. The zero value of each field
// is its default.
type HTTPOptions struct {
	Proxy *url.URL // nil goes direct

	// Timeout bounds the connection, the TLS handshake and the wait for the
	// first byte, each. 5 s.
	Timeout time.Duration
	// LowSpeed is the rate, in bytes per second over any Timeout spent
	// waiting, below which a body counts as stalled. 1024.
	LowSpeed int64
	// UserAgent is sent with each request. "rootstock".
	UserAgent string
	// FollowRedirects allows up to four, as CVMFS_FOLLOW_REDIRECTS does.
	FollowRedirects bool
	TLS             *tls.Config // for https; nil trusts the system's CAs
	Counters        *Counters   // nil counts nothing
	Bandwidth       *Bandwidth  // nil for no limit
	// Resolver finds the addresses of a name, which are tried in turn; nil is
	// the system's. Renew is how often connections that are idle are dropped,
	// so that a name is followed to its new addresses. 1 min.
	Resolver *net.Resolver
	Renew    time.Duration
}

// HTTP is one server, over one proxy or directly. It has a transport, and so
// a pool of connections, of its own.
type HTTP struct {
	base   string // without trailing slash
	proxy  string
	o      HTTPOptions
	client *http.Client
	wire   *wire // instead of client; nil where that has to do it

	renewed atomic.Int64 // UNIX nanoseconds
}

const maxRedirects = 4

// NewHTTP prepares to talk to the repository at base, an http or https URL.
func NewHTTP(base string, o HTTPOptions) (*HTTP, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("server URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("server URL %q: want http://host/path or https://host/path", base)
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.LowSpeed <= 0 {
		o.LowSpeed = 1024
	}
	if o.Renew <= 0 {
		o.Renew = time.Minute
	}
	if o.UserAgent == "" {
		o.UserAgent = "rootstock"
	}
	h := &HTTP{base: strings.TrimRight(u.String(), "/"), o: o}
	dialer := &net.Dialer{Timeout: o.Timeout, KeepAlive: 30 * time.Second, Resolver: o.Resolver}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    o.Timeout,
		ResponseHeaderTimeout:  o.Timeout,
		TLSClientConfig:        o.TLS,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // no Accept-Encoding: objects are compressed already
		MaxIdleConnsPerHost:    16,
		MaxConnsPerHost:        64,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         32 << 10,
	}
	if o.Proxy != nil {
		transport.Proxy = http.ProxyURL(o.Proxy)
		h.proxy = o.Proxy.Redacted()
	}
	h.client = &http.Client{Transport: transport, CheckRedirect: h.redirect}
	h.wire = newWire(u, &h.o, dialer)
	return h, nil
}

func (h *HTTP) redirect(_ *http.Request, via []*http.Request) error {
	if !h.o.FollowRedirects {
		return http.ErrUseLastResponse
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	return nil
}

// Close drops idle connections. Bodies still open are not affected.
func (h *HTTP) Close() {
	h.client.CloseIdleConnections()
	if h.wire != nil {
		h.wire.close()
	}
}

// Fetch requests path once.
func (h *HTTP) Fetch(ctx context.Context, path string, o Options) (io.ReadCloser, error) {
	inner, cancel := context.WithCancelCause(ctx)
	h.o.Counters.request()
	start := time.Now()
	h.renew(start)
	b := &body{h: h, ctx: ctx, inner: inner, cancel: cancel, window: h.o.Timeout}
	resp, err := b.request(path, o)
	if err != nil {
		if errors.Is(context.Cause(inner), ErrTimeout) {
			err = ErrTimeout
		}
		b.stop()
		return nil, h.failed(ctx, err)
	}
	if b.timer != nil {
		b.timer.Stop() // until somebody reads
	}
	h.o.Counters.answered(time.Since(start))
	wanted := http.StatusOK
	if o.Length > 0 {
		wanted = http.StatusPartialContent
	}
	b.in, b.etag = resp.body, resp.etag
	if resp.status != wanted {
		err := h.status(resp)
		b.Close() //nolint:errcheck // the status says it all
		return nil, err
	}
	return h.o.Bandwidth.reader(inner, b), nil
}

// request sends a request and waits for the answer's header.
func (b *body) request(path string, o Options) (*answerHead, error) {
	h := b.h
	if h.wire != nil {
		return h.wire.get(b.inner, escape(path), func(add func(name, value string)) { header(o, add) }, b.start)
	}
	req, err := http.NewRequestWithContext(b.inner, http.MethodGet, h.base+"/"+escape(path), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", h.o.UserAgent)
	header(o, req.Header.Set)
	resp, err := h.client.Do(req) //nolint:bodyclose // it is body.Close that closes it
	if err != nil {
		return nil, err
	}
	return &answerHead{
		status: resp.StatusCode, etag: resp.Header.Get("ETag"), body: resp.Body,
		byProxy: resp.Header.Get("X-Squid-Error") != "" || strings.Contains(resp.Header.Get("Proxy-Status"), "error"),
	}, nil
}

// renew drops idle connections when it is time to. Under steady load none of
// them would ever be idle long enough to be closed.
func (h *HTTP) renew(now time.Time) {
	last := h.renewed.Load()
	if now.UnixNano()-last < int64(h.o.Renew) || !h.renewed.CompareAndSwap(last, now.UnixNano()) || last == 0 {
		return
	}
	h.Close()
}

// header adds what a request's options ask for.
func header(o Options, add func(name, value string)) {
	if o.ETag != "" {
		add("If-None-Match", o.ETag)
	}
	if o.Length > 0 {
		add("Range", fmt.Sprintf("bytes=%d-%d", o.Offset, o.Offset+o.Length-1))
	}
	switch {
	case o.NoCache:
		add("Cache-Control", "no-cache")
		add("Pragma", "no-cache")
	case o.MaxAge > 0:
		add("Cache-Control", "max-age="+strconv.Itoa(max(1, int(o.MaxAge/time.Second))))
	}
}

// failed classifies a request or a body that broke off.
func (h *HTTP) failed(ctx context.Context, err error) error {
	e := &Error{Kind: ErrUnavailable, Server: h.base, Proxy: h.proxy, Cause: root(err)}
	if ctx.Err() != nil {
		// The caller gave up; nobody is to blame.
		e.Cause = context.Cause(ctx)
		return e
	}
	defer func() { h.o.Counters.failure(outcomeOf(e)) }()
	e.Blame, e.Temporary = h.nearest(), true
	var t interface{ Timeout() bool }
	if errors.Is(err, ErrTimeout) || errors.As(err, &t) && t.Timeout() {
		// The time of a retry is better spent on somebody else. The cause
		// is dropped: net/http's is a DeadlineExceeded, which callers
		// would take for their own.
		e.Kind, e.Temporary, e.Cause = ErrTimeout, false, fmt.Errorf("limit %v", h.o.Timeout)
	}
	return e
}

// root strips what net/url puts around an error: method and URL, which the
// text of Error has already.
func root(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func (h *HTTP) nearest() Blame {
	if h.proxy != "" {
		return BlameProxy
	}
	return BlameServer
}

// status classifies an answer that is not the file (CVMFS-FORMAT 6.4).
func (h *HTTP) status(resp *answerHead) error {
	e := &Error{Kind: ErrUnavailable, Server: h.base, Proxy: h.proxy, Status: resp.status, Blame: BlameServer}
	switch code := resp.status; {
	case code == http.StatusNotModified:
		e.Kind, e.Blame = ErrNotModified, BlameNobody
		return e
	case h.proxy != "" && resp.byProxy:
		e.Blame = BlameProxy
	case code == http.StatusNotFound || code == http.StatusGone:
		e.Kind = ErrNotFound
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		e.Temporary = true
	case code >= 500 || code == http.StatusBadRequest:
	default:
		e.Blame = h.nearest()
	}
	h.o.Counters.failure(outcomeOf(e))
	return e
}

// escape percent-encodes what CVMFS-FORMAT 6.3 does not list as plain.
func escape(path string) string {
	const plain = "/:.@+-_~[],"
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(path))
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
