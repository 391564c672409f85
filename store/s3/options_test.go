package s3_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/internal/versitygw"
	"github.com/rootstock-cf/rootstock/store/s3"
)

// What a configuration says of the way to the server is what the server sees.
func TestTheWayToTheServer(t *testing.T) {
	var mu sync.Mutex
	var seen *http.Request
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = r.Clone(t.Context())
		http.NotFound(w, r)
	}))
	t.Cleanup(proxy.Close)
	through, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change           func(o *s3.Options)
		host, path, auth string
	}{
		"path":         {func(*s3.Options) {}, "s3.example.org:8080", "/" + bucket + "/x/.cvmfspublished", "AWS4-HMAC-SHA256 Credential=key/"},
		"DNS":          {func(o *s3.Options) { o.DNSBuckets = true }, bucket + ".s3.example.org:8080", "/x/.cvmfspublished", "AWS4-HMAC-SHA256 Credential=key/"},
		"signature v2": {func(o *s3.Options) { o.SignatureV2 = true }, "s3.example.org:8080", "/" + bucket + "/x/.cvmfspublished", "AWS key:"},
		"region":       {func(o *s3.Options) { o.Region = "mars" }, "s3.example.org:8080", "/" + bucket + "/x/.cvmfspublished", "/mars/s3/aws4_request"},
	} {
		o := s3.Options{Bucket: bucket, Prefix: "x", Endpoint: "http://s3.example.org:8080", Region: "r", AccessKey: "key", SecretKey: "secret", Proxy: through, Retries: 1}
		tc.change(&o)
		s, err := s3.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Has(t.Context(), ".cvmfspublished"); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
		mu.Lock()
		if seen == nil || seen.URL.Host != tc.host || seen.URL.Path != tc.path || !strings.Contains(seen.Header.Get("Authorization"), tc.auth) {
			t.Errorf("%s: the proxy was asked %+v", name, seen)
		}
		seen = nil
		mu.Unlock()
	}
}

// Concurrency is how many requests are under way at most, and it is made use of.
func TestConcurrency(t *testing.T) {
	middle := putBetween(t, versitygw.Start(t, bucket))
	const most = 3
	o := s3.Options{
		Bucket: bucket, Endpoint: middle.url, Region: versitygw.Region, AccessKey: versitygw.AccessKey,
		SecretKey: versitygw.SecretKey, Prefix: prefix, Concurrency: most,
	}
	s := open(t, o)
	var under atomic.Int64
	var once sync.Once
	all := make(chan struct{})
	middle.misbehave(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		n := under.Add(1)
		defer under.Add(-1)
		if n > most {
			t.Errorf("%d requests at once", n)
		}
		if n == most {
			once.Do(func() { close(all) })
		}
		select {
		case <-all:
		case <-r.Context().Done():
			t.Error("the others did not come")
		}
		pass.ServeHTTP(w, r)
	})
	var group sync.WaitGroup
	for i := range 4 * most {
		group.Go(func() { put(t, s, fmt.Sprint(i)) })
	}
	group.Wait()
}
