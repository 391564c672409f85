package s3_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/rootstock-cf/rootstock/internal/versitygw"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store/s3"
)

// What is there already is asked of listings, not object by object: of one where
// all of it fits into that.
func TestExistenceByListing(t *testing.T) {
	for name, tc := range map[string]struct{ objects, heads, lists int }{
		"new":   {0, 0, 1},
		"small": {300, 0, 1},
		"large": {1100, 2 * 256, 1 + 256},
	} {
		t.Run(name, func(t *testing.T) { existence(t, tc.objects, tc.heads, tc.lists) })
	}
}

func existence(t *testing.T, objects, maxHeads, maxLists int) {
	server := versitygw.Start(t, bucket)
	middle := putBetween(t, server)
	o := options(server, prefix)
	o.Endpoint = middle.url
	s := open(t, o)
	unlock, err := s.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	const workers = 4
	each := func(n int, f func(i int)) {
		var group sync.WaitGroup
		for worker := range workers {
			group.Go(func() {
				for i := worker; i < n; i += workers {
					f(i)
				}
			})
		}
		group.Wait()
	}
	each(objects, func(i int) {
		if err := s.Put(t.Context(), nameOf(fmt.Sprint(i)), []byte(fmt.Sprint(i))); err != nil {
			t.Error(err)
		}
	})
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if s, err = s3.Open(o); err != nil {
		t.Fatal(err)
	}
	if unlock, err = s.Lock(t.Context(), "bert"); err != nil {
		t.Fatal(err)
	}
	defer unlock()
	middle.misbehave(nil)
	const asked = 4000
	each(asked, func(i int) {
		size, ok, err := s.Has(t.Context(), nameOf(fmt.Sprint(i)))
		if want := i < objects; err != nil || ok != want || ok && size != int64(len(fmt.Sprint(i))) {
			t.Errorf("Has(%d) = %d, %v, %v", i, size, ok, err)
		}
	})
	heads, lists := middle.count(method(http.MethodHead)), middle.count(isList)
	if heads > maxHeads || lists > maxLists {
		t.Errorf("%d names cost %d single questions and %d listings", asked, heads, lists)
	}
	// What is put is known, what is deleted is not.
	name := put(t, s, "new")
	if _, ok, err := s.Has(t.Context(), name); !ok || err != nil {
		t.Errorf("after Put: %v, %v", ok, err)
	}
	if err := s.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Has(t.Context(), name); ok || err != nil {
		t.Errorf("after Delete: %v, %v", ok, err)
	}
}

// Without the lock somebody else may put and delete: nothing is remembered.
func TestNothingIsKnownWithoutTheLock(t *testing.T) {
	server := versitygw.Start(t, bucket)
	a := open(t, options(server, prefix))
	b, err := s3.Open(options(server, prefix))
	if err != nil {
		t.Fatal(err)
	}
	name := put(t, a, "object")
	for i := range 5 {
		if _, ok, err := b.Has(t.Context(), name); !ok || err != nil {
			t.Errorf("round %d: %v, %v", i, ok, err)
		}
		if err := a.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := b.Has(t.Context(), name); ok || err != nil {
			t.Errorf("round %d, deleted: %v, %v", i, ok, err)
		}
		put(t, a, "object")
	}
	// Nor of the time when it was held.
	unlock, err := a.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	other := put(t, a, "put under the lock")
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := a.Has(t.Context(), other); ok || err != nil {
		t.Errorf("deleted after the lock was given back: %v, %v", ok, err)
	}
}

// CVMFS-FORMAT 5.10: what the web and proxies are told.
func TestHeaders(t *testing.T) {
	server := versitygw.Start(t, bucket)
	middle := putBetween(t, server)
	o := options(server, prefix)
	o.Endpoint, o.ACL = middle.url, "private"
	s := open(t, o)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("x")))
	for name, want := range map[string][2]string{
		nameOf("x"):          {"application/octet-stream", "max-age=259200"},
		".cvmfswhitelist":    {"application/x-cvmfs", "max-age=61"},
		".cvmfs_status.json": {"application/json", "max-age=61"},
	} {
		middle.misbehave(nil)
		if err := s.Put(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
		n := middle.count(func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, prefix+"/"+name) && r.Header.Get("Content-Type") == want[0] &&
				r.Header.Get("Cache-Control") == want[1] && r.Header.Get("X-Amz-Acl") == "private" &&
				r.Header.Get("X-Amz-Content-Sha256") == sum && r.Header.Get("Content-Encoding") == ""
		})
		if n != 1 {
			t.Errorf("%s: %d puts with %v", name, n, want)
		}
	}
	middle.misbehave(nil)
	if err := s.Swap(t.Context(), ".cvmfspublished", nil, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if n := middle.count(func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.Header.Get("If-None-Match") == "*" && r.Header.Get("Cache-Control") == "max-age=61"
	}); n != 1 {
		t.Errorf("%d first manifests on condition that there is none", n)
	}
}

// What is damaged on its way up is refused, and nothing of it is there.
func TestDamagedOnTheWayUp(t *testing.T) {
	middle := putBetween(t, versitygw.Start(t, bucket))
	o := options(&versitygw.Server{URL: middle.url}, prefix)
	o.Retries = 1
	s := open(t, o)
	middle.misbehave(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPut {
			body, err := io.ReadAll(r.Body)
			if err != nil || len(body) == 0 {
				t.Errorf("%d bytes, %v", len(body), err)
			}
			body[0] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		pass.ServeHTTP(w, r)
	})
	for _, name := range []string{nameOf("object"), ".cvmfswhitelist"} {
		if err := s.Put(t.Context(), name, []byte("object")); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	middle.misbehave(nil)
	for _, name := range []string{nameOf("object"), ".cvmfswhitelist"} {
		if _, ok, err := s.Has(t.Context(), name); ok || err != nil {
			t.Errorf("%s is there: %v, %v", name, ok, err)
		}
	}
}

// Where the signature does not cover the content, its MD5 does.
func TestUnsignedContentHasMD5(t *testing.T) {
	sums := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			sums <- r.Header.Get("Content-Md5")
		}
	}))
	defer server.Close()
	s, err := s3.Open(s3.Options{Bucket: bucket, Endpoint: server.URL, Region: versitygw.Region, AccessKey: "a", SecretKey: "b", SignatureV2: true})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "object")
	if sum := md5.Sum([]byte("object")); <-sums != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Error("it is not the content's")
	}
}

// What is too large for one request goes up in parts.
func TestMultipart(t *testing.T) {
	server := versitygw.Start(t, bucket)
	middle := putBetween(t, server)
	o := options(server, prefix)
	o.Endpoint = middle.url
	s := open(t, o)
	content := bytes.Repeat([]byte("0123456789abcdef"), 65<<16)
	name := object.Path(object.SHAKE128.Sum(content), object.Catalog)
	for range 2 {
		if err := s.Put(t.Context(), name, content); err != nil {
			t.Fatal(err)
		}
	}
	if n := middle.count(func(r *http.Request) bool { return r.URL.Query().Get("partNumber") != "" }); n < 2 {
		t.Errorf("%d parts", n)
	}
	r, err := s.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes of %d, %v", len(got), len(content), err)
	}
}

func TestCreateRefuses(t *testing.T) {
	server := versitygw.Start(t, bucket)
	s := open(t, options(server, "a"))
	if err := s.Put(t.Context(), ".cvmfspublished", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s3.Create(t.Context(), options(server, "a")); err == nil || !strings.Contains(err.Error(), "holds a repository already") {
		t.Errorf("a repository: %v", err)
	}
	if err := s.Put(t.Context(), "thesis.tex", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s3.Create(t.Context(), options(server, "")); err == nil || !strings.Contains(err.Error(), `holds "a/"`) {
		t.Errorf("a bucket with something in it: %v", err)
	}
	o := options(server, "x")
	o.Bucket = "nowhere"
	if _, err := s3.Create(t.Context(), o); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("no bucket: %v", err)
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, options(versitygw.Start(b, bucket), prefix))
	data := make([]byte, 11<<10)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	b.SetParallelism(16)
	var mu sync.Mutex
	i := 0
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			i++
			n := i
			mu.Unlock()
			if err := s.Put(b.Context(), nameOf(fmt.Sprint(n)), data); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
