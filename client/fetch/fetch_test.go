package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// sink is a fetch.Sink in memory.
type sink struct {
	bytes.Buffer
	resets int
}

func (s *sink) Reset() error { s.Buffer.Reset(); s.resets++; return nil }

// server answers with what handle says and counts requests.
type server struct {
	*httptest.Server
	hits atomic.Int64
}

func serve(t *testing.T, handle http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		handle(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func stack(t *testing.T, c fetch.Config) *fetch.Stack {
	t.Helper()
	if c.BackoffInit == 0 {
		c.BackoffInit = time.Millisecond
	}
	s, err := fetch.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func stored(t *testing.T, c object.Compression, plain string) ([]byte, codec.Expect) {
	t.Helper()
	b, err := codec.Encode(c, nil, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return b, codec.Expect{Hash: object.SHAKE128.Sum(b), Compression: c, Size: int64(len(plain))}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

const plain = "the plain bytes of an object that is long enough to be cut somewhere"

// Each fault of a first server, with what comes of it when it is the only one
// and, always, the right bytes when there is a second.
func TestFaults(t *testing.T) {
	good, want := stored(t, object.Zlib, plain)
	write := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write(b) } //nolint:errcheck // the client is told to expect trouble
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
	}
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)/2] ^= 1
	for name, tc := range map[string]struct {
		handle http.HandlerFunc
		kind   error
		hits   int64 // on the faulty server when it is the only one
	}{
		"wrong bytes":  {write(flipped), fetch.ErrCorrupt, 2},
		"html":         {write([]byte("<html>login please</html>")), fetch.ErrCorrupt, 2},
		"empty":        {write(nil), fetch.ErrCorrupt, 2},
		"appended":     {write(append(bytes.Clone(good), 'x')), fetch.ErrCorrupt, 2},
		"truncated":    {write(good[:len(good)-3]), fetch.ErrCorrupt, 2},
		"404":          {status(404), fetch.ErrNotFound, 1},
		"403":          {status(403), fetch.ErrUnavailable, 1},
		"500":          {status(500), fetch.ErrUnavailable, 1},
		"503 retried":  {status(503), fetch.ErrUnavailable, 2},
		"429 retried":  {status(429), fetch.ErrUnavailable, 2},
		"redirect":     {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", 302) }, fetch.ErrUnavailable, 1},
		"no answer":    {hang, fetch.ErrTimeout, 1},
		"hung up":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, fetch.ErrUnavailable, 2},
		"short":        {short(good), fetch.ErrUnavailable, 2},
		"stalled body": {stall(good), fetch.ErrTimeout, 2},
		"trickle":      {trickle, fetch.ErrTimeout, 2},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(good); err != nil {
					return
				}
			}
		}, fetch.ErrCorrupt, 2},
		"endless nothing": {emptyBlocks, fetch.ErrCorrupt, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := serve(t, tc.handle)
			c := fetch.Config{Servers: []string{bad.URL}, TimeoutDirect: 200 * time.Millisecond, LowSpeed: 10000}
			var out sink
			err := fetch.Object(t.Context(), stack(t, c), object.Bulk, want, &out)
			if !errors.Is(err, tc.kind) {
				t.Errorf("alone: %v, want %v", err, tc.kind)
			}
			if err == nil || !strings.Contains(err.Error(), object.Path(want.Hash, object.Bulk)) {
				t.Errorf("error %q does not name the object", err)
			}
			for _, leaked := range []error{context.DeadlineExceeded, context.Canceled, fs.ErrNotExist} {
				if errors.Is(err, leaked) {
					t.Errorf("error %v passes for the caller's own %v", err, leaked)
				}
			}
			if n := bad.hits.Load(); n != tc.hits {
				t.Errorf("%d requests, want %d", n, tc.hits)
			}
			c.Servers = append(c.Servers, serve(t, write(good)).URL)
			out = sink{}
			if err := fetch.Object(t.Context(), stack(t, c), object.Bulk, want, &out); err != nil || out.String() != plain {
				t.Errorf("with a second server: %q, %v", out.String(), err)
			}
		})
	}
}

// short promises more than it sends.
func short(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write(b) //nolint:errcheck // see write
	}
}

func stall(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Write(b[:10]) //nolint:errcheck // see write
		http.NewResponseController(w).Flush()
		hang(w, r)
	}
}

// trickle never pauses long, and is far below the limit.
func trickle(w http.ResponseWriter, r *http.Request) {
	w.Write([]byte{0x78, 0x9c}) //nolint:errcheck // see write
	for r.Context().Err() == nil {
		w.Write([]byte{0, 0, 0, 0xff, 0xff}) //nolint:errcheck // an empty deflate block
		http.NewResponseController(w).Flush()
		time.Sleep(20 * time.Millisecond)
	}
}

// emptyBlocks is a zlib stream that goes on for ever and never gives a byte.
func emptyBlocks(w http.ResponseWriter, r *http.Request) {
	w.Write([]byte{0x78, 0x9c}) //nolint:errcheck // see write
	block := bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, 1000)
	for r.Context().Err() == nil {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// A corrupt copy in a proxy's cache is healed by asking past it.
func TestCorruptIsRetriedPastCaches(t *testing.T) {
	good, want := stored(t, object.Zstd, plain)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cache-Control") == "no-cache" && r.Header.Get("Pragma") == "no-cache" {
			w.Write(good) //nolint:errcheck // checked below
			return
		}
		w.Write([]byte("poison")) //nolint:errcheck // see write
	})
	var out sink
	err := fetch.Object(t.Context(), stack(t, fetch.Config{Servers: []string{s.URL}}), object.Bulk, want, &out)
	if err != nil || out.String() != plain || out.resets != 1 {
		t.Errorf("%q after %d resets, %v", out.String(), out.resets, err)
	}
}

type fullSink struct{ sink }

var errDisk = errors.New("disk is full")

func (*fullSink) Write([]byte) (int, error) { return 0, errDisk }

// What goes wrong on our side is nobody else's fault and no reason to retry.
func TestSinkErrorIsReturned(t *testing.T) {
	good, want := stored(t, object.Zlib, plain)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(good) }) //nolint:errcheck // see write
	err := fetch.Object(t.Context(), stack(t, fetch.Config{Servers: []string{s.URL}}), object.Bulk, want, &fullSink{})
	if !errors.Is(err, errDisk) || errors.Is(err, fetch.ErrCorrupt) || s.hits.Load() != 1 {
		t.Errorf("%v after %d requests", err, s.hits.Load())
	}
}

func TestHeaders(t *testing.T) {
	var got http.Header
	var path string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, path = r.Header, r.URL.EscapedPath()
		w.Header().Set("ETag", `"tag"`)
		if r.Header.Get("If-None-Match") == `"tag"` {
			w.WriteHeader(http.StatusNotModified)
		}
	})
	f := stack(t, fetch.Config{Servers: []string{s.URL + "/cvmfs/a.b/"}, UserAgent: "tester"})
	_, etag, err := fetch.ReadAll(t.Context(), f, ".cvmfspublished", fetch.Options{MaxAge: 5 * time.Second}, 10)
	if err != nil || etag != `"tag"` {
		t.Fatalf("etag %q, %v", etag, err)
	}
	if got.Get("User-Agent") != "tester" || got.Get("Cache-Control") != "max-age=5" {
		t.Errorf("headers %v", got)
	}
	if _, sent := got["Accept-Encoding"]; sent {
		t.Errorf("Accept-Encoding %q was sent", got["Accept-Encoding"])
	}
	if path != "/cvmfs/a.b/.cvmfspublished" {
		t.Errorf("path %q", path)
	}
	if _, _, err := fetch.ReadAll(t.Context(), f, ".cvmfspublished", fetch.Options{ETag: etag}, 10); !errors.Is(err, fetch.ErrNotModified) {
		t.Errorf("conditional request: %v", err)
	}
	if _, _, err := fetch.ReadAll(t.Context(), f, "sp ace%#?é", fetch.Options{}, 10); err != nil || path != "/cvmfs/a.b/sp%20ace%25%23%3F%C3%A9" {
		t.Errorf("path %q, %v", path, err)
	}
}

func TestReadAllIsBounded(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 11)) }) //nolint:errcheck // see write
	f := stack(t, fetch.Config{Servers: []string{s.URL}})
	if _, _, err := fetch.ReadAll(t.Context(), f, "x", fetch.Options{}, 10); !errors.Is(err, fetch.ErrTooLarge) {
		t.Errorf("11 bytes where 10 are allowed: %v", err)
	}
	if b, _, err := fetch.ReadAll(t.Context(), f, "x", fetch.Options{}, 11); err != nil || len(b) != 11 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// ReadAll goes to the next server when a body breaks off.
func TestReadAllGoesOn(t *testing.T) {
	bad := serve(t, short([]byte("abc")))
	ok := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "abcdef") }) //nolint:errcheck // see write
	f := stack(t, fetch.Config{Servers: []string{bad.URL, ok.URL}})
	if b, _, err := fetch.ReadAll(t.Context(), f, "x", fetch.Options{}, 100); err != nil || string(b) != "abcdef" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestCallerGivesUp(t *testing.T) {
	s := serve(t, hang)
	f := stack(t, fetch.Config{Servers: []string{s.URL, s.URL + "/2"}, TimeoutDirect: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for s.hits.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	})
	_, _, err := fetch.ReadAll(ctx, f, "x", fetch.Options{}, 10)
	wg.Wait()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n := s.hits.Load(); n != 1 {
		t.Errorf("%d requests: went on after its caller had gone", n)
	}
	if got := f.Network().Server; got != s.URL {
		t.Errorf("server %s: the caller's leaving was held against the first", got)
	}
}

func TestLimit(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }) //nolint:errcheck // see write
	f := stack(t, fetch.Config{Servers: []string{s.URL}, Concurrency: 1})
	first, err := f.Fetch(t.Context(), "a", fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := f.Fetch(ctx, "b", fetch.Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second request beside an open body: %v", err)
	}
	first.Close() //nolint:errcheck // frees the slot, twice is once
	first.Close() //nolint:errcheck // see above
	for range 3 {
		b, err := f.Fetch(t.Context(), "c", fetch.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b.Close() //nolint:errcheck // see above
	}
}

type missing struct{}

func (missing) Get(context.Context, string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }

func TestFromGetter(t *testing.T) {
	_, err := fetch.FromGetter("/srv/repo", missing{}).Fetch(t.Context(), "x", fetch.Options{})
	if !errors.Is(err, fetch.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
