package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/serve"
)

// asked counts the requests that were net/http's.
type asked struct {
	http.Handler
	n atomic.Int64
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.n.Add(1)
	a.Handler.ServeHTTP(w, r)
}

// startSite serves a site on l; quick says whether with what this file tests.
func startSite(t testing.TB, l net.Listener, site *serve.Site, quick bool, grace time.Duration) (h *asked, stop func() error) {
	t.Helper()
	h = &asked{Handler: site.Handler()}
	s := &serve.Server{Handler: h, Log: quiet(), Grace: grace}
	if quick {
		if s.Quick = site.Quick(); s.Quick == nil {
			t.Fatal("nothing can be answered quickly")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { stop() })
	return h, stop
}

func loopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t testing.TB, l net.Listener) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

const hungUp = "hung up"

// next reads an answer as one text: status, sorted header, body.
func next(t testing.TB, r *bufio.Reader, method string) string {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return hungUp // by end or by reset, as its timing falls
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil && resp.StatusCode == http.StatusOK {
		t.Errorf("date: %v", err)
	}
	resp.Header.Del("Date")
	var header bytes.Buffer
	if err := resp.Header.Write(&header); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%s %s %d\n%s\n%q", resp.Proto, resp.Status, resp.ContentLength, header.String(), b)
}

// piece is what a client sends at a time, once what it sent before has been
// answered.
type piece struct {
	send    string
	answers int    // to be read before the next
	method  string // GET
}

func talk(t testing.TB, l net.Listener, pieces []piece) (answers []string) {
	t.Helper()
	c, r := dial(t, l)
	for _, p := range pieces {
		if _, err := io.WriteString(c, p.send); err != nil {
			return append(answers, hungUp)
		}
		if p.answers == 0 {
			time.Sleep(20 * time.Millisecond) // so that pieces arrive one by one; nothing is asserted of it
		}
		for range p.answers {
			answers = append(answers, next(t, r, max(p.method, "GET")))
			if answers[len(answers)-1] == hungUp {
				return answers
			}
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return append(answers, hungUp)
	}
	return append(answers, next(t, r, "GET"))
}

// Whatever a client says, it gets the answer that net/http gives, in the same
// order; and what is not meant to be slow is not.
func TestQuickAnswersAreTheSame(t *testing.T) {
	_, s := fixture(t)
	large := bytes.Repeat([]byte("0123456789"), 10_000)
	largeName := object.Path(object.SHAKE128.Sum(large), object.Bulk)
	edge := bytes.Repeat([]byte("x"), 32<<10)
	edgeName := object.Path(object.SHAKE128.Sum(edge), object.Bulk)
	for name, b := range map[string][]byte{largeName: large, edgeName: edge} {
		if err := s.Put(t.Context(), name, b); err != nil {
			t.Fatal(err)
		}
	}
	name := nameOf("catalog", object.Catalog)
	get := func(path string, header ...string) string {
		return "GET /" + path + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(header, ""), "\r\n") + "\r\n"
	}
	object := piece{send: get(name), answers: 1}
	one := func(send string) piece { return piece{send: send, answers: 1} }
	length := func(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) }
	for what, c := range map[string]struct {
		pieces []piece
		slow   int64 // requests that reach net/http
	}{
		"objects":           {[]piece{object, object, one(get("cvmfs/" + fqrn + "/" + name)), one(get(edgeName)), object}, 1},
		"usual headers":     {[]piece{object, one(get(name, "user-agent: a", "ACCEPT:*/*", "Via: 1.1 b, 1.1 c", "Connection: Keep-Alive", "Pragma: no-cache"))}, 1},
		"others between":    {[]piece{object, one(get(".cvmfspublished")), object, one(get(largeName)), object, one(get("data/none")), object}, 4},
		"absent":            {[]piece{object, one(get(nameOf("none", 0))), object}, 2},
		"head":              {[]piece{object, {send: strings.Replace(get(name), "GET", "HEAD", 1), answers: 1, method: "HEAD"}, object}, 2},
		"range":             {[]piece{object, one(get(name, "Range: bytes=1-3")), object}, 2},
		"conditional":       {[]piece{object, one(get(name, "If-None-Match: *")), object}, 2},
		"unknown header":    {[]piece{object, one(get(name, "X-Other: 1")), object}, 2},
		"no host":           {[]piece{object, one("GET /" + name + " HTTP/1.1\r\n\r\n")}, 1},
		"two hosts":         {[]piece{object, one(get(name, "Host: y"))}, 1},
		"strange host":      {[]piece{object, one(strings.Replace(get(name), "Host: x", "Host: x/y", 1))}, 1},
		"bad header":        {[]piece{object, one(get(name, "User-Agent : a"))}, 1},
		"control character": {[]piece{object, one(get(name, "Via: \x01"))}, 1},
		"folded":            {[]piece{object, one(get(name, "Via: a", " b"))}, 2},
		"escaped":           {[]piece{object, one(get(strings.Replace(name, "a", "%61", 1))), object}, 2},
		"dots":              {[]piece{object, one(get("data/../" + name)), one(get("./" + name))}, 3},
		"query":             {[]piece{object, one(get(name + "?a"))}, 2},
		"absolute":          {[]piece{object, one(strings.Replace(get(name), "GET /", "GET http://x/", 1)), object}, 2},
		"close":             {[]piece{object, one(get(name, "Connection: close")), object}, 2},
		"http/1.0":          {[]piece{object, one("GET /" + name + " HTTP/1.0\r\n\r\n"), object}, 2},
		"http/1.0 kept":     {[]piece{object, one("GET /" + name + " HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), object}, 1},
		"http/2":            {[]piece{object, one("GET /" + name + " HTTP/2.0\r\nHost: x\r\n\r\n")}, 1},
		"pipelined":         {[]piece{object, {send: get(name) + get(name) + get(".cvmfspublished"), answers: 3}, object}, 5},
		"in two":            {[]piece{object, {send: get(name)[:20]}, one(get(name)[20:]), object}, 3},
		"one and a half":    {[]piece{object, {send: get(name) + get(name)[:9], answers: 1}, one(get(name)[9:])}, 3},
		"byte by byte":      {[]piece{object, {send: "G"}, {send: "E"}, one(get(name)[2:]), object}, 3},
		"bare line ends":    {[]piece{object, one(strings.ReplaceAll(get(name), "\r\n", "\n")), object}, 3},
		"ends early":        {[]piece{object, {send: "GET /" + name + " HTTP/1.1\nHost: x\n\n" + get(name), answers: 2}, object}, 4},
		// A body must not be taken for a request.
		"post":            {[]piece{object, {send: "POST /x HTTP/1.1\r\nHost: x\r\n" + length(get(name))}, one(get(name)), object}, 3},
		"get with body":   {[]piece{object, {send: "GET /.cvmfspublished HTTP/1.1\r\nHost: x\r\n" + length(get(name))}, one(get(name)), object}, 3},
		"body of first":   {[]piece{{send: "GET /.cvmfspublished HTTP/1.1\r\nHost: x\r\n" + length(get(name))}, one(get(name)), object}, 2},
		"get with chunks": {[]piece{object, {send: get(name, "Transfer-Encoding: chunked")}, one("0\r\n\r\n"), object}, 3},
		"expects":         {[]piece{object, one(get(name, "Expect: 100-continue", "Content-Length: 0")), object}, 3},
		"upgrade":         {[]piece{object, one(get(name, "Upgrade: h2c", "Connection: Upgrade")), object}, 3},
		"nonsense":        {[]piece{object, one("nonsense\r\n\r\n")}, 1},
		"header of 40000": {[]piece{object, one(get(name, "Via: "+strings.Repeat("a", 40_000)))}, 1},
		"header of 6000":  {[]piece{object, one(get(name, "Via: "+strings.Repeat("a", 6_000))), object}, 3},
		"nothing first":   {[]piece{one("\r\n\r\n")}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			site := func() *serve.Site {
				return &serve.Site{Repositories: map[string]store.Getter{fqrn: s}, Log: quiet()}
			}
			plain, quick := loopback(t), loopback(t)
			startSite(t, plain, site(), false, time.Minute)
			counted, _ := startSite(t, quick, site(), true, time.Minute)
			want := talk(t, plain, c.pieces)
			for try := 0; ; try++ {
				before := counted.n.Load()
				if diff := cmp.Diff(want, talk(t, quick, c.pieces)); diff != "" {
					t.Fatalf("net/http says -, we say +\n%s", diff)
				}
				// A client that is faster than net/http's look for who left
				// is answered by net/http, now and then.
				n := counted.n.Load() - before
				if n == c.slow {
					return
				}
				if n < c.slow || try == 50 {
					t.Fatalf("%d requests reached net/http, want %d", n, c.slow)
				}
			}
		})
	}
}

// What is answered quickly is counted and logged as all else.
func TestQuickIsObserved(t *testing.T) {
	_, s := fixture(t)
	var out buffer
	site := &serve.Site{
		Repositories: map[string]store.Getter{fqrn: s}, Log: quiet(),
		Metrics: serve.NewMetrics(), Access: serve.NewAccessLog(&out, quiet()),
	}
	l := loopback(t)
	h, stop := startSite(t, l, site, true, time.Minute)
	name := nameOf("catalog", object.Catalog)
	request := piece{send: "GET /" + name + " HTTP/1.1\r\nHost: x\r\nUser-Agent: a \"b\r\nReferer: c\r\n\r\n", answers: 1}
	asked := 0
	for try := 0; h.n.Load() == int64(asked); try++ { // until some were quick
		if try == 50 {
			t.Fatal("all requests reached net/http")
		}
		talk(t, l, []piece{request, request, request})
		asked += 3
	}
	text := do(t, "GET", "http://"+l.Addr().String()+"/metrics").body
	for _, want := range []string{
		fmt.Sprintf(`rootstock_serve_requests_total{code="200",repository="test.example.org"} %d`, asked),
		fmt.Sprintf(`rootstock_serve_sent_bytes_total{repository="test.example.org"} %d`, 7*asked),
		fmt.Sprintf(`rootstock_serve_request_seconds_count %d`, asked),
		`rootstock_serve_requests_open 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	site.Access.Flush()
	line := `"GET /` + name + ` HTTP/1.1" 200 7 "c" "a \"b" `
	if n := strings.Count(out.String(), line); n != asked || strings.Count(out.String(), "127.0.0.1 - - [") != asked+1 {
		t.Errorf("%d of %s in\n%s", n, line, out.String())
	}
}

// A thousand clients that keep their connections are answered side by side, each
// with what it asked for, most of it without net/http.
func TestThousandQuickConnections(t *testing.T) {
	_, s := fixture(t)
	const objects, clients, rounds = 50, 1000, 5
	var contents [objects][]byte
	var names [objects]string
	for i := range objects {
		contents[i] = bytes.Repeat([]byte{byte(i)}, 1000+200*i)
		names[i] = object.Path(object.SHAKE128.Sum(contents[i]), object.Bulk)
		if err := s.Put(t.Context(), names[i], contents[i]); err != nil {
			t.Fatal(err)
		}
	}
	l := loopback(t)
	h, _ := startSite(t, l, &serve.Site{Repositories: map[string]store.Getter{fqrn: s}, Log: quiet()}, true, time.Minute)
	var connected, group sync.WaitGroup
	connected.Add(clients)
	for client := range clients {
		group.Go(func() {
			c, err := net.Dial("tcp", l.Addr().String())
			connected.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Error(err)
				return
			}
			r := bufio.NewReader(c)
			for round := range rounds {
				connected.Wait() // all are there before the first asks
				i := (client + round) % objects
				if _, err := fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", names[i]); err != nil {
					t.Error(err)
					return
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Errorf("client %d, request %d: %v", client, round, err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, contents[i]) {
					t.Errorf("client %d, request %d: %s, %d bytes, %v", client, round, resp.Status, len(got), err)
					return
				}
			}
		})
	}
	group.Wait()
	if n := h.n.Load(); n < clients || n > clients*rounds/2 { // the first of each connection are net/http's
		t.Errorf("%d of %d requests were net/http's", n, clients*rounds)
	}
}

// narrow is a listener whose connections take little at a time.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(1)
	}
	return c, err
}

// slowAnswer begins a quick answer that cannot end until the client reads.
func slowAnswer(t *testing.T, grace time.Duration) (r *bufio.Reader, content []byte, stop func() error) {
	t.Helper()
	_, s := fixture(t)
	content = bytes.Repeat([]byte("0123456789abcdef"), 2000)
	name := object.Path(object.SHAKE128.Sum(content), object.Bulk)
	if err := s.Put(t.Context(), name, content); err != nil {
		t.Fatal(err)
	}
	l := narrow{loopback(t)}
	h, stop := startSite(t, l, &serve.Site{Repositories: map[string]store.Getter{fqrn: s}, Log: quiet()}, true, grace)
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if cerr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1) }); cerr != nil {
			return cerr
		}
		return err
	}}
	c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r = bufio.NewReaderSize(c, 16)
	ask := func() {
		if _, err := fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", name); err != nil {
			t.Fatal(err)
		}
	}
	for try := 0; ; try++ {
		before := h.n.Load()
		ask()
		if _, err := r.Peek(1); err != nil {
			t.Fatal(err)
		}
		if h.n.Load() == before {
			break
		}
		if try == 50 {
			t.Fatal("all requests reached net/http")
		}
		next(t, r, "GET")
	}
	return r, content, stop
}

func TestShutdownWaitsForQuickAnswers(t *testing.T) {
	r, content, stop := slowAnswer(t, time.Minute)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("stopped with an answer under way: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if a := next(t, r, "GET"); !strings.HasSuffix(a, fmt.Sprintf("%q", content)) {
		t.Errorf("the answer was cut off: %.200s", a)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownDoesNotWaitForeverForQuickAnswers(t *testing.T) {
	r, content, stop := slowAnswer(t, 50*time.Millisecond)
	if err := stop(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if b, err := io.ReadAll(r); err == nil && bytes.HasSuffix(b, content) {
		t.Error("all of it was sent to who did not read")
	}
}

func TestQuickNeedsADirectory(t *testing.T) {
	_, s := fixture(t)
	site := &serve.Site{Repositories: map[string]store.Getter{fqrn: getter{bucket{s, nil, 0}}}, Log: quiet()}
	if site.Quick() != nil {
		t.Error("a store that cannot read at once is asked to")
	}
}

func FuzzQuick(f *testing.F) {
	f.Add([]byte("GET /data/ab/cd HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add([]byte("GET /a HTTP/1.0\r\nConnection: keep-alive\r\nVia: \tb\r\n\r\n"))
	f.Add([]byte("GET  HTTP/1.0\r\nConneCtion:keep-Alive\r\n\r\n"))
	f.Add([]byte("GET /a HTTP/1.1\nHost: x\n\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		target, quick, whole := serve.ParseQuick(p)
		in := bufio.NewReader(bytes.NewReader(p))
		r, err := http.ReadRequest(in)
		if quick && (err != nil || r.Method != "GET" || r.RequestURI != target || r.URL.Path != target || r.Close || r.ContentLength != 0) {
			t.Fatalf("%q is no GET of %q: %v, %v", p, target, r, err)
		}
		if (quick || whole) && err == nil {
			if n, err := io.Copy(io.Discard, r.Body); n != 0 || err != nil {
				t.Fatalf("%q has a body: %d, %v", p, n, err)
			}
			if n := in.Buffered(); n != 0 {
				t.Fatalf("%q goes on for %d bytes", p, n)
			}
		}
	})
}
