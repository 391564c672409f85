package serve_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/serve"
)

func siteOf(t testing.TB, s *serve.Site) string {
	t.Helper()
	if s.Log == nil {
		s.Log = quiet()
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server.URL
}

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestGeo(t *testing.T) {
	_, s := fixture(t)
	base := siteOf(t, &serve.Site{
		Repositories: map[string]store.Getter{fqrn: s},
		GeoOrder:     []string{"near.example.org", "Middle.example.org:8000", "far.example.org"},
	})
	for list, want := range map[string]string{
		"far.example.org,middle.example.org,near.example.org": "3,2,1\n",
		"near.example.org,middle.example.org,far.example.org": "1,2,3\n",
		"unknown,far.example.org,other,near.example.org":      "4,2,1,3\n",
		"FAR.example.org:8000,near.example.org:80":            "2,1\n",
		"a": "1\n",
		"b,far.example.org,+PXYSEP+,proxy,near.example.org": "2,1,3,5,4\n",
		"a,b,c": "1,2,3\n",
	} {
		for _, prefix := range []string{"/cvmfs/" + fqrn, ""} {
			a := do(t, "GET", base+prefix+"/api/v1.0/geo/client-7/"+list)
			if a.StatusCode != 200 || a.body != want || a.Header.Get("Cache-Control") != "public, max-age=3600" || a.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("%s: %s %q %v, want %q", list, a.Status, a.body, a.Header, want)
			}
		}
	}
	for _, bad := range []string{"geo/x", "geo/x/", "geo//a", "geo/x/a,,b", "other/x/a", "geo/x/" + strings.Repeat("a,", 300) + "a"} {
		a := do(t, "GET", base+"/cvmfs/"+fqrn+"/api/v1.0/"+bad)
		if a.StatusCode != 400 || a.Header.Get("Cache-Control") != "public, max-age=300" {
			t.Errorf("%.40s: %s %v", bad, a.Status, a.Header)
		}
	}
	if a := do(t, "GET", base+"/cvmfs/none.example.org/api/v1.0/geo/x/a"); a.StatusCode != 404 {
		t.Errorf("of a repository that is not there: %s", a.Status)
	}
	if a := do(t, "POST", base+"/cvmfs/"+fqrn+"/api/v1.0/geo/x/a"); a.StatusCode != 405 {
		t.Errorf("POST: %s", a.Status)
	}
}

func TestInfo(t *testing.T) {
	_, a := fixture(t)
	_, b := fixture(t)
	if err := b.Put(t.Context(), ".cvmfs_last_snapshot", []byte("x")); err != nil {
		t.Fatal(err)
	}
	base := siteOf(t, &serve.Site{
		Repositories: map[string]store.Getter{fqrn: a, "replica.example.org": b},
		Meta:         []byte(`{"administrator":"anna"}`),
	})
	got := do(t, "GET", base+"/cvmfs/info/v1/repositories.json")
	var says struct {
		Schema                 int
		LastGeo                string `json:"last_geodb_update"`
		Version                string `json:"cvmfs_version"`
		Repositories, Replicas []map[string]string
	}
	if err := json.Unmarshal([]byte(got.body), &says); err != nil {
		t.Fatal(err)
	}
	if says.Schema != 1 || says.LastGeo == "" || says.Version == "" || got.Header.Get("Content-Type") != "application/json" ||
		!cmp.Equal(says.Repositories, []map[string]string{{"name": fqrn, "url": "/cvmfs/" + fqrn}}) ||
		!cmp.Equal(says.Replicas, []map[string]string{{"name": "replica.example.org", "url": "/cvmfs/replica.example.org"}}) {
		t.Errorf("%v %s", got.Header, got.body)
	}
	if got := do(t, "GET", base+"/cvmfs/info/v1/meta.json"); got.body != `{"administrator":"anna"}` {
		t.Errorf("%s", got.body)
	}
	if got := do(t, "GET", base+"/cvmfs/info/v1/other.json"); got.StatusCode != 404 {
		t.Errorf("%s", got.Status)
	}
	if got := do(t, "DELETE", base+"/cvmfs/info/v1/meta.json"); got.StatusCode != 405 {
		t.Errorf("%s", got.Status)
	}
	plain := siteOf(t, &serve.Site{Repositories: map[string]store.Getter{fqrn: a}})
	var meta map[string]any
	if err := json.Unmarshal([]byte(do(t, "GET", plain+"/cvmfs/info/v1/meta.json").body), &meta); err != nil || meta["administrator"] != "" {
		t.Errorf("%v, %v", meta, err)
	}
}

func TestAccessLog(t *testing.T) {
	_, s := fixture(t)
	var out buffer
	access := serve.NewAccessLog(&out, quiet())
	base := siteOf(t, &serve.Site{Repositories: map[string]store.Getter{fqrn: s}, Access: access})
	name := nameOf("catalog", object.Catalog)
	do(t, "GET", base+"/"+name, "User-Agent", "a \"quoted\"\xff agent")
	do(t, "GET", base+"/none%0Afake", "Referer", "here")
	do(t, "HEAD", base+"/.cvmfspublished")
	do(t, "GET", base+"/"+name, "If-None-Match", "*")
	access.Flush()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, want := range []string{
		`^127\.0\.0\.1 - - \[\d\d/\w+/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /` + regexp.QuoteMeta(name) + ` HTTP/1\.1" 200 7 "-" "a \\"quoted\\"\\xff agent" \d+\.\d{3}$`,
		`"GET /none%0Afake HTTP/1\.1" 404 \d+ "here" "Go-http-client/1\.1"`,
		`"HEAD /\.cvmfspublished HTTP/1\.1" 200 0 `,
		`HTTP/1\.1" 304 0 `,
	} {
		if i >= len(lines) || !regexp.MustCompile(want).MatchString(lines[i]) {
			t.Errorf("line %d: %q, want %s", i, lines, want)
		}
	}
	// A line does not wait for others for ever.
	do(t, "GET", base+"/waits")
	for !strings.Contains(out.String(), "/waits") {
		time.Sleep(10 * time.Millisecond)
	}
}

// A log that cannot be written stops no request.
func TestAccessLogFails(t *testing.T) {
	_, s := fixture(t)
	access := serve.NewAccessLog(failing{}, quiet())
	base := siteOf(t, &serve.Site{Repositories: map[string]store.Getter{fqrn: s}, Access: access})
	for range 3 {
		if a := do(t, "GET", base+"/.cvmfspublished"); a.body != "manifest" {
			t.Errorf("%s", a.Status)
		}
		access.Flush()
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fmt.Errorf("disk full") }

func TestMetrics(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{Expires: time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)})
	repo.Publish(testrepo.Tree{"/file": testrepo.Text("x")})
	_, s := fixture(t)
	for _, name := range repo.Names("") {
		if err := s.Put(t.Context(), name, repo.Get(name)); err != nil {
			t.Fatal(err)
		}
	}
	_, broken := fixture(t)
	base := siteOf(t, &serve.Site{
		Repositories: map[string]store.Getter{fqrn: s, "broken.example.org": broken}, Metrics: serve.NewMetrics(),
	})
	for range 3 {
		do(t, "GET", base+"/cvmfs/"+fqrn+"/"+nameOf("catalog", object.Catalog))
	}
	do(t, "GET", base+"/cvmfs/"+fqrn+"/none")
	do(t, "GET", base+"/cvmfs/made.up.example.org/none")
	text := do(t, "GET", base+"/metrics").body
	for _, want := range []string{
		`rootstock_serve_requests_total{code="200",repository="test.example.org"} 3`,
		`rootstock_serve_requests_total{code="404",repository="test.example.org"} 1`,
		`rootstock_serve_requests_total{code="404",repository=""} 1`,
		`rootstock_serve_sent_bytes_total{repository="test.example.org"} 34`,
		`rootstock_serve_request_seconds_count 5`,
		`rootstock_serve_requests_open 1`,
		`rootstock_serve_repository_up{repository="test.example.org"} 1`,
		`rootstock_serve_repository_up{repository="broken.example.org"} 0`,
		`rootstock_serve_repository_revision{repository="test.example.org"} 1`,
		`rootstock_serve_repository_published_timestamp_seconds{repository="test.example.org"} `,
		`rootstock_serve_whitelist_expiry_timestamp_seconds{repository="test.example.org"} 2.209086e+09`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "made.up") {
		t.Error("a client made up a label")
	}
	// Health and metrics are asked for by path, never found in a repository.
	if a := do(t, "GET", base+"/cvmfs/"+fqrn+"/metrics"); a.StatusCode != 404 {
		t.Errorf("%s", a.Status)
	}
}

// What observes responses leaves alone what they are: ranges, HEAD, breaking
// off, sendfile.
func TestObservedIsTheSame(t *testing.T) {
	_, s := fixture(t)
	var out buffer
	base := siteOf(t, &serve.Site{
		// Of which nobody knows how long it would have been.
		Repositories: map[string]store.Getter{fqrn: getter{bucket{s, fmt.Errorf("broke off"), 3}}},
		Metrics:      serve.NewMetrics(), Access: serve.NewAccessLog(&out, quiet()),
	})
	resp, err := http.Get(base + "/" + nameOf("catalog", object.Catalog))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("half an object was taken for a whole one")
	}
	base = siteOf(t, &serve.Site{Repositories: map[string]store.Getter{fqrn: s}, Metrics: serve.NewMetrics()})
	if a := do(t, "GET", base+"/"+nameOf("catalog", object.Catalog), "Range", "bytes=2-4"); a.StatusCode != 206 || a.body != "tal" {
		t.Errorf("%s %q", a.Status, a.body)
	}
}

// fileSender is a response that can send a file, as those of net/http can by
// sendfile.
type fileSender struct {
	*httptest.ResponseRecorder
	files int
}

func (f *fileSender) ReadFrom(r io.Reader) (int64, error) {
	from := r
	if limited, ok := r.(*io.LimitedReader); ok {
		from = limited.R
	}
	if _, ok := from.(*os.File); ok {
		f.files++
	}
	return io.Copy(f.ResponseRecorder, r)
}

// What is large gets to the connection as the file that it is, whoever observes
// it on the way.
func TestSendfile(t *testing.T) {
	_, s := fixture(t)
	content := bytes.Repeat([]byte("0123456789"), 10_000)
	name := object.Path(object.SHAKE128.Sum(content), object.Bulk)
	if err := s.Put(t.Context(), name, content); err != nil {
		t.Fatal(err)
	}
	var out buffer
	for what, site := range map[string]*serve.Site{
		"alone":    {},
		"observed": {Metrics: serve.NewMetrics(), Access: serve.NewAccessLog(&out, quiet())},
	} {
		site.Repositories, site.Log = map[string]store.Getter{fqrn: s}, quiet()
		w := &fileSender{ResponseRecorder: httptest.NewRecorder()}
		site.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/"+name, nil))
		if w.files != 1 || !bytes.Equal(w.Body.Bytes(), content) {
			t.Errorf("%s: %d files, %d bytes", what, w.files, w.Body.Len())
		}
	}
}

// A thousand clients are connected at once and all of them are answered.
func TestThousandConnections(t *testing.T) {
	_, s := fixture(t)
	content := bytes.Repeat([]byte("0123456789"), 2000)
	name := object.Path(object.SHAKE128.Sum(content), object.Bulk)
	if err := s.Put(t.Context(), name, content); err != nil {
		t.Fatal(err)
	}
	site := &serve.Site{Repositories: map[string]store.Getter{fqrn: s}, Log: quiet(), Metrics: serve.NewMetrics()}
	base, _ := start(t, site.Handler(), time.Minute)
	const clients = 1000
	var connected, group sync.WaitGroup
	connected.Add(clients)
	for range clients {
		group.Go(func() {
			c, err := net.Dial("tcp", base[len("http://"):])
			connected.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			connected.Wait() // all are there before the first asks
			if _, err := fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", name); err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	group.Wait()
}
