package serve_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
	"github.com/rootstock-cf/rootstock/store/serve"
)

const fqrn = "test.example.org"

func nameOf(content string, t object.Type) string {
	return object.Path(object.SHAKE128.Sum([]byte(content)), t)
}

// fixture is a repository in a directory, with all that may lie in one.
func fixture(t testing.TB) (dir string, s *local.Store) {
	t.Helper()
	dir = t.TempDir()
	s, err := local.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, content := range map[string]string{
		nameOf("file", object.Bulk): "file", nameOf("catalog", object.Catalog): "catalog",
		".cvmfspublished": "manifest", ".cvmfswhitelist": "whitelist", ".cvmfs_status.json": "{}",
		".cvmfsreflog": strings.Repeat("reflog ", 100_000), "data/notes": "private", "secret": "private",
	} {
		if err := s.Put(t.Context(), name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	unlock, err := s.Lock(t.Context(), "private")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unlock(); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "data/txn/x"), []byte("private"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, s
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// listen serves repositories on a real socket and returns its address.
func listen(t testing.TB, repositories map[string]store.Getter) string {
	t.Helper()
	server := httptest.NewServer(serve.Handler(repositories, quiet()))
	t.Cleanup(server.Close)
	return server.URL
}

type answer struct {
	*http.Response
	body string
}

func do(t testing.TB, method, address string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	// Verbatim: no redirect followed, no compression asked for.
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, address, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, address, err)
	}
	return answer{resp, string(b)}
}

// CVMFS-FORMAT 8.2, at both addresses of a repository.
func TestGet(t *testing.T) {
	_, s := fixture(t)
	base := listen(t, map[string]store.Getter{fqrn: s})
	const immutable = "public, max-age=31536000, immutable"
	for name, want := range map[string]struct{ body, kind, cache string }{
		nameOf("file", object.Bulk):       {"file", "application/octet-stream", immutable},
		nameOf("catalog", object.Catalog): {"catalog", "application/octet-stream", immutable},
		".cvmfspublished":                 {"manifest", "application/x-cvmfs", "public, max-age=61"},
		".cvmfswhitelist":                 {"whitelist", "application/x-cvmfs", "public, max-age=61"},
		".cvmfsreflog":                    {strings.Repeat("reflog ", 100_000), "application/x-cvmfs", "public, max-age=61"},
		".cvmfs_status.json":              {"{}", "application/json", "public, max-age=61"},
	} {
		for _, prefix := range []string{"/", "/cvmfs/" + fqrn + "/"} {
			for _, method := range []string{"GET", "HEAD"} {
				a := do(t, method, base+prefix+name, "Accept-Encoding", "gzip, zstd")
				body := want.body
				if method == "HEAD" {
					body = ""
				}
				if a.StatusCode != 200 || a.Proto != "HTTP/1.1" || a.body != body {
					t.Errorf("%s %s%s: %s %s, %d bytes", method, prefix, name, a.Proto, a.Status, len(a.body))
				}
				if a.ContentLength != int64(len(want.body)) {
					t.Errorf("%s %s%s: Content-Length %d", method, prefix, name, a.ContentLength)
				}
				for header, value := range map[string]string{
					"Content-Type": want.kind, "Cache-Control": want.cache, "Content-Encoding": "",
					"Last-Modified": "", "Vary": "", "Accept-Ranges": "bytes",
				} {
					if got := a.Header.Get(header); got != value {
						t.Errorf("%s %s%s: %s: %q, want %q", method, prefix, name, header, got, value)
					}
				}
			}
		}
	}
}

// Only what a repository shows is shown, however it is spelt.
func TestHidden(t *testing.T) {
	_, s := fixture(t)
	base := listen(t, map[string]store.Getter{fqrn: s})
	file := nameOf("file", object.Bulk)
	for _, path := range []string{
		"", "/", "/data", "/data/", "/data/5f/", "/data/txn", "/data/txn/", "/data/txn/x", "/data/notes", "/secret",
		"/.rootstock.lock", "/data/.rootstock.dirty", "/.rootstock.swap", "/cvmfs", "/cvmfs/", "/cvmfs/" + fqrn, "/cvmfs/" + fqrn + "/",
		"/cvmfs/" + fqrn + "/.rootstock.lock", "/cvmfs/" + fqrn + "/data/txn/x", "/cvmfs/other.example.org/.cvmfspublished",
		"/cvmfs/" + fqrn + "/../../etc/passwd", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
		"//.cvmfspublished", "/./.cvmfspublished", "/x/../.cvmfspublished", "/.cvmfspublished/", "/.cvmfspublished%00",
		"/.cvmfs/../secret", "/.cvmfs%2f..%2fsecret", "/.cvmfsnone", "/" + file + "/", "/" + file + "T", "/" + strings.ToUpper(file),
		"/data/00/00000000000000000000000000000000000000", "/.cvmfs" + strings.Repeat("x", 5000), "/index.html",
	} {
		a := do(t, "GET", base+path)
		if a.StatusCode != 404 || strings.Contains(a.body, "private") || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %v %.80q", path, a.Status, a.Header, a.body)
		}
		if kind := a.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("%s: Content-Type %s", path, kind)
		}
	}
}

func TestMethods(t *testing.T) {
	_, s := fixture(t)
	base := listen(t, map[string]store.Getter{fqrn: s})
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"} {
		a := do(t, method, base+"/.cvmfspublished")
		if a.StatusCode != 405 || a.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s, Allow %q", method, a.Status, a.Header.Get("Allow"))
		}
	}
}

func TestConditional(t *testing.T) {
	_, s := fixture(t)
	base := listen(t, map[string]store.Getter{fqrn: s})
	object := nameOf("catalog", object.Catalog)
	if tag := do(t, "HEAD", base+"/"+object).Header.Get("Etag"); tag != `"`+strings.ReplaceAll(strings.TrimPrefix(object, "data"), "/", "")+`"` {
		t.Errorf("an object's tag is %s", tag)
	}
	for _, name := range []string{object, ".cvmfspublished"} {
		tag := do(t, "GET", base+"/"+name).Header.Get("Etag")
		for _, value := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			a := do(t, "GET", base+"/"+name, "If-None-Match", value)
			if a.StatusCode != 304 || a.body != "" || a.Header.Get("Etag") != tag || a.Header.Get("Cache-Control") == "" {
				t.Errorf("%s, If-None-Match %s: %s %v", name, value, a.Status, a.Header)
			}
		}
		if a := do(t, "GET", base+"/"+name, "If-None-Match", `"other"`); a.StatusCode != 200 || a.body == "" {
			t.Errorf("%s, other tag: %s", name, a.Status)
		}
	}
	tag := do(t, "GET", base+"/.cvmfspublished").Header.Get("Etag")
	if err := s.Swap(t.Context(), ".cvmfspublished", []byte("manifest"), []byte("MANIFEST")); err != nil {
		t.Fatal(err)
	}
	if a := do(t, "GET", base+"/.cvmfspublished", "If-None-Match", tag); a.StatusCode != 200 || a.body != "MANIFEST" || a.Header.Get("Etag") == tag {
		t.Errorf("after a publish: %s %q, tag %s", a.Status, a.body, a.Header.Get("Etag"))
	}
	if tag := do(t, "GET", base+"/.cvmfsreflog").Header.Get("Etag"); tag != "" {
		t.Errorf("a large root file's tag is %s", tag)
	}
}

func TestRange(t *testing.T) {
	_, s := fixture(t)
	base := listen(t, map[string]store.Getter{fqrn: s})
	for _, tc := range []struct {
		name, value  string
		status       int
		body, extent string
	}{
		{nameOf("catalog", object.Catalog), "bytes=2-4", 206, "tal", "bytes 2-4/7"},
		{nameOf("catalog", object.Catalog), "bytes=-2", 206, "og", "bytes 5-6/7"},
		{nameOf("catalog", object.Catalog), "bytes=7-", 416, "", "bytes */7"},
		{".cvmfsreflog", "bytes=699993-", 206, "reflog ", "bytes 699993-699999/700000"},
		{".cvmfspublished", "bytes=0-0", 206, "m", "bytes 0-0/8"},
	} {
		a := do(t, "GET", base+"/"+tc.name, "Range", tc.value)
		if a.StatusCode != tc.status || a.Header.Get("Content-Range") != tc.extent || tc.status == 206 && a.body != tc.body {
			t.Errorf("%s %s: %s %q %q", tc.name, tc.value, a.Status, a.Header.Get("Content-Range"), a.body)
		}
	}
}

// With two repositories, / means neither.
func TestSeveral(t *testing.T) {
	_, a := fixture(t)
	_, b := fixture(t)
	if err := b.Put(t.Context(), ".cvmfspublished", []byte("other")); err != nil {
		t.Fatal(err)
	}
	base := listen(t, map[string]store.Getter{fqrn: a, "other.example.org": b})
	for path, want := range map[string]string{
		"/cvmfs/" + fqrn + "/.cvmfspublished":      "manifest",
		"/cvmfs/other.example.org/.cvmfspublished": "other",
		"/.cvmfspublished":                         "no such file\n",
	} {
		if a := do(t, "GET", base+path); a.body != want {
			t.Errorf("%s: %s %q", path, a.Status, a.body)
		}
	}
}

func TestHealth(t *testing.T) {
	dir, s := fixture(t)
	base := listen(t, map[string]store.Getter{fqrn: s})
	if a := do(t, "GET", base+"/healthz"); a.StatusCode != 200 || a.body != "ok\n" {
		t.Errorf("%s %q", a.Status, a.body)
	}
	if err := os.Remove(filepath.Join(dir, ".cvmfspublished")); err != nil {
		t.Fatal(err)
	}
	if a := do(t, "GET", base+"/healthz"); a.StatusCode != 503 || !strings.Contains(a.body, fqrn) {
		t.Errorf("without manifest: %s %q", a.Status, a.body)
	}
}

// bucket is a store that cannot seek, as one in a cloud.
type bucket struct {
	store.Store
	fail  error
	short int64 // so many bytes of each object, then fail
}

func (b bucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if b.fail != nil && b.short == 0 {
		return nil, b.fail
	}
	r, err := b.Store.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	var from io.Reader = r
	if b.fail != nil {
		from = io.MultiReader(io.LimitReader(r, b.short), broken{b.fail})
	}
	return struct {
		io.Reader
		io.Closer
	}{from, r}, nil
}

// getter can nothing but get.
type getter struct{ store.Getter }

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

func TestStoreWithoutSeek(t *testing.T) {
	_, s := fixture(t)
	base := listen(t, map[string]store.Getter{fqrn: bucket{Store: s}})
	catalog := nameOf("catalog", object.Catalog)
	for name, want := range map[string]string{
		catalog: "catalog", ".cvmfspublished": "manifest", ".cvmfsreflog": strings.Repeat("reflog ", 100_000),
	} {
		if a := do(t, "GET", base+"/"+name); a.StatusCode != 200 || a.body != want || a.ContentLength != int64(len(want)) {
			t.Errorf("%s: %s, %d bytes of %d", name, a.Status, len(a.body), a.ContentLength)
		}
		if a := do(t, "HEAD", base+"/"+name); a.StatusCode != 200 || a.ContentLength != int64(len(want)) {
			t.Errorf("HEAD %s: %s, %d bytes", name, a.Status, a.ContentLength)
		}
	}
	tag := do(t, "GET", base+"/"+catalog).Header.Get("Etag")
	if a := do(t, "GET", base+"/"+catalog, "If-None-Match", `"x", `+tag); a.StatusCode != 304 || a.body != "" {
		t.Errorf("%s %q", a.Status, a.body)
	}
	if a := do(t, "GET", base+"/"+catalog, "Range", "bytes=1-2"); a.StatusCode != 200 || a.body != "catalog" {
		t.Errorf("range: %s %q", a.Status, a.body)
	}
}

// A store that fails is the server's fault, told without details; a response
// that has begun breaks off and is never taken for whole.
func TestStoreFails(t *testing.T) {
	_, s := fixture(t)
	var log bytes.Buffer
	serveWith := func(b bucket) string {
		server := httptest.NewServer(serve.Handler(map[string]store.Getter{fqrn: b}, slog.New(slog.NewTextHandler(&log, nil))))
		t.Cleanup(server.Close)
		return server.URL
	}
	base := serveWith(bucket{Store: s, fail: errors.New("credentials of anna are wrong")})
	for _, name := range []string{nameOf("file", object.Bulk), ".cvmfspublished"} {
		a := do(t, "GET", base+"/"+name)
		if a.StatusCode != 500 || strings.Contains(a.body, "anna") || a.Header.Get("Etag") != "" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %v %q", name, a.Status, a.Header, a.body)
		}
	}
	if !strings.Contains(log.String(), "credentials of anna are wrong") {
		t.Errorf("logged %q", log.String())
	}
	base = serveWith(bucket{Store: s, fail: errors.New("broke off"), short: 3})
	if a := do(t, "GET", base+"/.cvmfspublished"); a.StatusCode != 500 || a.Header.Get("Etag") != "" {
		t.Errorf("root file: %s", a.Status)
	}
	// Of the second nobody knows how long it would have been.
	for _, address := range []string{base, listen(t, map[string]store.Getter{fqrn: getter{bucket{s, errors.New("broke off"), 3}}})} {
		resp, err := http.Get(address + "/" + nameOf("catalog", object.Catalog))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Error("half an object was taken for a whole one")
		}
	}
}

// The path of a request is taken as the client sent it.
func TestRawPath(t *testing.T) {
	_, s := fixture(t)
	h := serve.Handler(map[string]store.Getter{fqrn: s}, quiet())
	for path, want := range map[string]int{"/.cvmfspublished": 200, "/%2Ecvmfspublished": 200, ".cvmfspublished": 404, "*": 404} {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: path}, Header: http.Header{}}
		if p, err := url.PathUnescape(path); err == nil {
			r.URL.Path = p
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %s", path, strconv.Itoa(w.Code))
		}
	}
}
