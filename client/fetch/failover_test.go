package fetch_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
)

// clock is moved by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }

func get(t *testing.T, f fetch.Fetcher, o fetch.Options) (string, error) {
	t.Helper()
	b, _, err := fetch.ReadAll(t.Context(), f, "x", o, 100)
	return string(b), err
}

func says(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) } //nolint:errcheck // the test sees it
}

func TestServersSwitchBack(t *testing.T) {
	broken := true
	a := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if broken {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		says("a")(w, r)
	})
	b := serve(t, says("b"))
	c := &clock{t: time.Unix(1e9, 0)}
	f := stack(t, fetch.Config{Servers: []string{a.URL, b.URL}, ServerReset: time.Minute, Clock: c.now})
	for range 3 {
		if got, err := get(t, f, fetch.Options{}); got != "b" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if a.hits.Load() != 1 || f.Network().Server != b.URL {
		t.Errorf("the broken server was asked %d times, current is %s", a.hits.Load(), f.Network().Server)
	}
	broken = false
	c.add(time.Minute + time.Second)
	if got, err := get(t, f, fetch.Options{}); got != "a" || err != nil || f.Network().Server != a.URL {
		t.Errorf("after its rest: %q, %v, current %s", got, err, f.Network().Server)
	}
}

// A file missing on a lagging replica is found elsewhere, without switching.
func TestNotFoundKeepsTheServer(t *testing.T) {
	a := serve(t, http.NotFound)
	b := serve(t, says("b"))
	f := stack(t, fetch.Config{Servers: []string{a.URL, b.URL}})
	for n := range 2 {
		if got, err := get(t, f, fetch.Options{}); got != "b" || err != nil || a.hits.Load() != int64(n+1) {
			t.Errorf("%q, %v, %d requests to the first", got, err, a.hits.Load())
		}
	}
}

// One server without the file and one without an answer prove nothing.
func TestNotFoundNeedsAll(t *testing.T) {
	a := serve(t, http.NotFound)
	b := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", 500) })
	f := stack(t, fetch.Config{Servers: []string{a.URL, b.URL}})
	if _, err := get(t, f, fetch.Options{}); errors.Is(err, fetch.ErrNotFound) || !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestSkip(t *testing.T) {
	a, b := serve(t, says("a")), serve(t, says("b"))
	f := stack(t, fetch.Config{Servers: []string{a.URL, b.URL}})
	if got, err := get(t, f, fetch.Options{Skip: 1}); got != "b" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := get(t, f, fetch.Options{Skip: 2}); !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestParseProxies(t *testing.T) {
	for _, tc := range []struct{ regular, fallback, want string }{
		{"a:1|http://b:2;c:3;DIRECT", "", "http://a:1|http://b:2;http://c:3;DIRECT"},
		{"DIRECT", "", "DIRECT"},
		{" a:1 ; ; |b:2| ", "", "http://a:1;http://b:2"},
		{"a:1;DIRECT", "f:1|DIRECT", "http://a:1;http://f:1"},
		{"http://u:pw@a:1", "", "http://u:xxxxx@a:1"},
	} {
		g, err := fetch.ParseProxies(tc.regular, tc.fallback)
		if err != nil {
			t.Errorf("%q: %v", tc.regular, err)
			continue
		}
		if got := fetch.NewProxies(g, time.Minute, time.Now).List(); got != tc.want {
			t.Errorf("%q + %q: %s, want %s", tc.regular, tc.fallback, got, tc.want)
		}
	}
	for _, bad := range []string{"", ";|", "auto;DIRECT", "socks5://x:1", "http://", "a:1|%zz"} {
		if g, err := fetch.ParseProxies(bad, ""); err == nil {
			t.Errorf("%q accepted as %v", bad, g)
		}
	}
}

// proxy is a forward proxy that puts its name before what it forwards.
func proxy(t *testing.T, name string) *server {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.IsAbs() {
			http.Error(w, "not a proxy request", http.StatusBadRequest)
			return
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			w.Header().Set("X-Squid-Error", "ERR_CONNECT_FAIL 111")
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		io.WriteString(w, name) //nolint:errcheck // the test sees it
		io.Copy(w, resp.Body)   //nolint:errcheck // the test sees it
	})
}

func TestProxyGroups(t *testing.T) {
	origin := serve(t, says("!"))
	p1, p2, p3 := proxy(t, "p1"), proxy(t, "p2"), proxy(t, "p3")
	c := &clock{t: time.Unix(1e9, 0)}
	f := stack(t, fetch.Config{
		Servers: []string{origin.URL}, Proxies: p1.URL + "|" + p2.URL + ";" + p3.URL + ";DIRECT",
		ProxyReset: time.Minute, Clock: c.now, Retries: -1,
	})
	ask := func(shard uint64) string {
		t.Helper()
		got, err := get(t, f, fetch.Options{Shard: shard})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	seen := map[string]uint64{}
	for shard := range uint64(64) {
		got := ask(shard << 32)
		if again := ask(shard << 32); again != got {
			t.Fatalf("shard %d went to %s, then to %s", shard, got, again)
		}
		seen[got] = shard << 32
	}
	if len(seen) != 2 || seen["p1!"] == seen["p2!"] {
		t.Fatalf("load went to %v, want p1 and p2", seen)
	}
	byP1 := seen["p1!"]
	p1.CloseClientConnections()
	p1.Listener.Close() //nolint:errcheck // death of the proxy
	if got := ask(byP1); got != "p2!" {
		t.Errorf("p1 dead: %s", got)
	}
	p2.CloseClientConnections()
	p2.Listener.Close() //nolint:errcheck // death of the proxy
	if got := ask(byP1); got != "p3!" {
		t.Errorf("first group dead: %s", got)
	}
	p3.CloseClientConnections()
	p3.Listener.Close() //nolint:errcheck // death of the proxy
	if got := ask(byP1); got != "!" {
		t.Errorf("all proxies dead: %s", got)
	}
	revived := httptest.NewUnstartedServer(p1.Config.Handler)
	u, err := url.Parse(p1.URL)
	if err != nil {
		t.Fatal(err)
	}
	relisten(t, revived, u.Host)
	if got := ask(byP1); got != "!" {
		t.Errorf("before the reset: %s", got)
	}
	c.add(time.Minute + time.Second)
	if got := ask(byP1); got != "p1!" {
		t.Errorf("after the reset: %s", got)
	}
}

// An error page made by the proxy is the proxy's fault, the origin's is not.
func TestBlame(t *testing.T) {
	origin := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusInternalServerError) })
	backup := serve(t, says("backup"))
	p := proxy(t, "p")
	f := stack(t, fetch.Config{Servers: []string{origin.URL, backup.URL}, Proxies: p.URL + ";DIRECT", Retries: -1})
	if got, err := get(t, f, fetch.Options{}); got != "pbackup" || err != nil {
		t.Errorf("origin at fault: %q, %v", got, err)
	}
	if got := f.Network().Proxy; got != p.URL {
		t.Errorf("proxy is now %s: blamed for the origin's answer", got)
	}
	sick := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Squid-Error", "ERR_READ_ERROR 104")
		http.Error(w, "", http.StatusBadGateway)
	})
	f = stack(t, fetch.Config{Servers: []string{backup.URL}, Proxies: sick.URL + ";DIRECT", Retries: -1})
	if got, err := get(t, f, fetch.Options{}); got != "backup" || err != nil || f.Network().Proxy != fetch.Direct {
		t.Errorf("proxy at fault: %q, %v, proxy %s", got, err, f.Network().Proxy)
	}
}

func TestConfigRefused(t *testing.T) {
	for name, c := range map[string]fetch.Config{
		"no server":  {},
		"bad scheme": {Servers: []string{"ftp://x/"}},
		"no host":    {Servers: []string{"http:///cvmfs"}},
		"bad proxy":  {Servers: []string{"http://x"}, Proxies: "auto"},
	} {
		if _, err := fetch.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func relisten(t *testing.T, s *httptest.Server, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s.Listener.Close() //nolint:errcheck // replaced
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
}
