package fetch_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
)

// counted serves handle and counts the connections.
func counted(t *testing.T, handle http.HandlerFunc) (base string, conns *atomic.Int64) {
	t.Helper()
	conns = new(atomic.Int64)
	s := httptest.NewUnstartedServer(handle)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, conns
}

func newHTTP(t *testing.T, base string, o fetch.HTTPOptions) *fetch.HTTP {
	t.Helper()
	h, err := fetch.NewHTTP(base, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// A connection goes on to the next request, whatever becomes of the context of
// the one before: an end that comes late must not meet it.
func TestConnectionIsUsedAgain(t *testing.T) {
	base, conns := counted(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }) //nolint:errcheck // see write
	h := newHTTP(t, base, fetch.HTTPOptions{})
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		body, err := h.Fetch(ctx, "x", fetch.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(body)
		cancel()
		if string(b) != "/x" || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
		body.Close() //nolint:errcheck // read to its end
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for requests that came one after the other", n)
	}
}

// What is left of a body that nobody wants to read is not taken for the next
// answer.
func TestHalfReadBody(t *testing.T) {
	base, conns := counted(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat(r.URL.Path, 1000)) //nolint:errcheck // see write
	})
	h := newHTTP(t, base, fetch.HTTPOptions{})
	for _, path := range []string{"a", "b"} {
		body, err := h.Fetch(t.Context(), path, fetch.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2)
		if _, err := io.ReadFull(body, b); err != nil || string(b) != "/"+path {
			t.Errorf("%q, %v", b, err)
		}
		body.Close() //nolint:errcheck // on purpose before its end
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// What separates parts of an answer, and what ends one before the connection is
// closed.
const later, hangUp = "\x00", "!"

// raw is a server that speaks for itself: it says what say does, and hangs up
// where that is nothing or ends with hangUp.
func raw(t *testing.T, say func(request, conn int) string) (base string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) //nolint:errcheck // the test is over
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // see above
				in := bufio.NewReader(c)
				for request := 0; ; request++ {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					requests.Add(1)
					text := say(request, n)
					for part := range strings.SplitSeq(text, later) {
						io.WriteString(c, part) //nolint:errcheck // the client is told to expect trouble
						time.Sleep(20 * time.Millisecond)
					}
					if text == "" || strings.HasSuffix(text, hangUp) {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String(), requests
}

// A server may close a connection that is idle, with or without a word, and
// that is not a failure.
func TestConnectionClosedWhileIdle(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, after := range map[string]string{"silently": "", "with a time-out": later + "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n" + hangUp} {
		t.Run(name, func(t *testing.T) {
			base, requests := raw(t, func(request, _ int) string {
				if request > 0 {
					return ""
				}
				return ok + after
			})
			var counters fetch.Counters
			h := newHTTP(t, base, fetch.HTTPOptions{Counters: &counters})
			for range 3 {
				body, err := h.Fetch(t.Context(), "x", fetch.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(body); string(b) != "ok" || err != nil {
					t.Errorf("%q, %v", b, err)
				}
				body.Close() //nolint:errcheck // read to its end
				time.Sleep(120 * time.Millisecond)
			}
			if f := counters.Totals().Failures; f != 0 || requests.Load() > 5 {
				t.Errorf("%d failures, %d requests", f, requests.Load())
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	for name, tc := range map[string]struct {
		sent   string
		status int // 0 for one that is refused
		body   string
		etag   string
	}{
		"a length":              {sent: "HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\nETag: \"a\" \r\n\r\nok", status: 200, body: "ok", etag: `"a"`},
		"no reason":             {sent: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		"bare line feeds":       {sent: "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", status: 200, body: "ok"},
		"no length":             {sent: "HTTP/1.0 200 OK\r\n\r\nok", status: 200, body: "ok"},
		"twice the same length": {sent: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		"chunks":                {sent: "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", status: 200, body: "ok"},
		"chunks and a length":   {sent: "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", status: 200, body: "ok"},
		"hints first":           {sent: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", status: 404, body: "no"},
		"not modified":          {sent: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", status: 304},

		"nothing":             {},
		"no HTTP":             {sent: "SSH-2.0-OpenSSH_9.2p1 Debian\r\n\r\n"},
		"HTTP of another day": {sent: "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		"no number":           {sent: "HTTP/1.1 2x0 OK\r\n\r\n"},
		"a status of no kind": {sent: "HTTP/1.1 099 OK\r\n\r\n"},
		"an end too early":    {sent: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"},
		"a header cut short":  {sent: "HTTP/1.1 200 OK\r\nContent-Le"},
		"two lengths":         {sent: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk"},
		"a negative length":   {sent: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok"},
		"a signed length":     {sent: "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"},
		"a huge length":       {sent: "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nok"},
		"chunks of old":       {sent: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		"an unknown coding":   {sent: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nok"},
		"a bad chunk":         {sent: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n"},
		"a folded line":       {sent: "HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 5\r\nContent-Length: 2\r\n\r\nok"},
		"a name with a space": {sent: "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"},
		"a line too long":     {sent: "HTTP/1.1 200 OK\r\nX: " + long + "\r\n\r\n"},
		"a header too long":   {sent: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+long[:1000]+"\r\n", 70) + "\r\n"},
		"hints without end":   {sent: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 9)},
		"other protocols":     {sent: "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			status, etag, body, err := fetch.Answer(strings.NewReader(tc.sent))
			if tc.status == 0 {
				if err == nil {
					t.Errorf("status %d, %q", status, body)
				}
				return
			}
			if status != tc.status || string(body) != tc.body || etag != tc.etag || err != nil {
				t.Errorf("status %d, %q, %q, %v", status, body, etag, err)
			}
		})
	}
}

// Whatever is understood is understood as net/http does.
func FuzzAnswer(f *testing.F) {
	for _, sent := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"a\"\r\n\r\nok",
		"HTTP/1.0 404 No\r\nConnection: close, x\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 304 X\r\n\r\n",
	} {
		f.Add([]byte(sent))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		status, etag, body, err := fetch.Answer(bytes.NewReader(sent))
		if err != nil {
			return
		}
		in := bufio.NewReader(bytes.NewReader(sent))
		resp, err := http.ReadResponse(in, nil)
		for err == nil && resp.StatusCode < 200 {
			resp, err = http.ReadResponse(in, nil)
		}
		if err != nil {
			return // it is stricter in what a header may hold
		}
		defer resp.Body.Close() //nolint:errcheck // in memory
		want, err := io.ReadAll(resp.Body)
		if err != nil {
			return // of trailers
		}
		if status != resp.StatusCode || !bytes.Equal(body, want) || etag != "" && etag != resp.Header.Get("ETag") {
			t.Errorf("status %d, %q, %q; net/http has %d, %q, %q", status, etag, body, resp.StatusCode, resp.Header.Get("ETag"), want)
		}
	})
}

// A proxy is asked with the whole address.
func TestProxyIsAsked(t *testing.T) {
	var asked atomic.Value
	proxy, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.RequestURI + " for " + r.Host)
		w.Header().Set("X-Squid-Error", "ERR_DNS_FAIL 0")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	h := newHTTP(t, "http://stratum1.test/cvmfs/a", fetch.HTTPOptions{Proxy: u})
	_, err = h.Fetch(t.Context(), "data/00/1", fetch.Options{})
	var e *fetch.Error
	if !errors.As(err, &e) || e.Blame != fetch.BlameProxy || e.Status != http.StatusServiceUnavailable {
		t.Errorf("%v, blame %v", err, e)
	}
	if got := asked.Load(); got != "http://stratum1.test/cvmfs/a/data/00/1 for stratum1.test" {
		t.Errorf("asked %q", got)
	}
}
