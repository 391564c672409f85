package s3_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/rootstock-cf/rootstock/internal/versitygw"
)

// between is a proxy before a real server, at which a test can look on and
// misbehave. Signatures cover the Host header, which it leaves alone.
type between struct {
	url string

	mu   sync.Mutex
	seen []*http.Request // without bodies
	hook func(w http.ResponseWriter, r *http.Request, pass http.Handler)
}

func putBetween(t testing.TB, server *versitygw.Server) *between {
	t.Helper()
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	b := &between{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.seen = append(b.seen, r.Clone(r.Context()))
		hook := b.hook
		b.mu.Unlock()
		if hook != nil {
			hook(w, r, pass)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(front.CloseClientConnections)
	t.Cleanup(front.Close)
	b.url = front.URL
	return b
}

// misbehave replaces what the proxy does; nil heals it. What was seen is
// forgotten.
func (b *between) misbehave(hook func(w http.ResponseWriter, r *http.Request, pass http.Handler)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hook, b.seen = hook, nil
}

// count counts the requests that were seen and match.
func (b *between) count(match func(r *http.Request) bool) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.seen {
		if match(r) {
			n++
		}
	}
	return n
}

func method(m string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == m }
}

func isList(r *http.Request) bool { return r.URL.Query().Get("list-type") == "2" }
