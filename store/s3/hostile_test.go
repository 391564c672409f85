package s3_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/internal/versitygw"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/s3"
)

const prefix = "test.example.org"

func nameOf(content string) string {
	return object.Path(object.SHAKE128.Sum([]byte(content)), object.Bulk)
}

func put(t testing.TB, s store.Store, content string) string {
	t.Helper()
	if err := s.Put(t.Context(), nameOf(content), []byte(content)); err != nil {
		t.Fatal(err)
	}
	return nameOf(content)
}

// everything is what a store can be asked to do, by name.
func everything(ctx context.Context, s *s3.Store) map[string]error {
	_, _, has := s.Has(ctx, nameOf("x"))
	_, get := s.Get(ctx, ".cvmfspublished")
	_, lock := s.Lock(ctx, "anna")
	return map[string]error{
		"Get": get, "Has": has, "Lock": lock, "Put": s.Put(ctx, nameOf("x"), []byte("x")),
		"Put root file": s.Put(ctx, ".cvmfswhitelist", []byte("x")), "Swap": s.Swap(ctx, ".cvmfspublished", nil, []byte("x")),
		"List": s.List(ctx, "", func(string, int64) error { return nil }),
	}
}

func TestWrongCredentials(t *testing.T) {
	server := versitygw.Start(t, bucket)
	for name, change := range map[string]func(*s3.Options){
		"secret": func(o *s3.Options) { o.SecretKey = "wrong" },
		"user":   func(o *s3.Options) { o.AccessKey = "nobody" },
	} {
		o := options(server, prefix)
		change(&o)
		if _, err := s3.Create(t.Context(), o); !errors.Is(err, s3.ErrCredentials) {
			t.Errorf("%s: Create: %v", name, err)
		}
		s, err := s3.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		for op, err := range everything(t.Context(), s) {
			if op == "Has" && name == "user" {
				continue // this server answers 404, and HEAD has no body to say of what
			}
			if !errors.Is(err, s3.ErrCredentials) || !strings.Contains(err.Error(), bucket) || !strings.Contains(err.Error(), "--s3-config") {
				t.Errorf("wrong %s: %s: %v", name, op, err)
			}
		}
	}
}

func TestVanishedBucket(t *testing.T) {
	server := versitygw.Start(t, bucket)
	s := open(t, options(server, prefix))
	put(t, s, "object")
	if err := os.RemoveAll(filepath.Join(server.Dir, bucket)); err != nil {
		t.Fatal(err)
	}
	for op, err := range everything(t.Context(), s) {
		if op == "Has" {
			continue // HEAD has no body to say so; what follows does
		}
		if !errors.Is(err, s3.ErrNoBucket) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), bucket) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if err := s.Sync(t.Context()); err == nil {
		t.Error("Sync found everything in a bucket that is not there")
	}
}

func TestNoServer(t *testing.T) {
	s, err := s3.Open(s3.Options{Bucket: bucket, Endpoint: "http://127.0.0.1:1", Region: "x", AccessKey: "a", SecretKey: "b", Retries: 1})
	if err != nil {
		t.Fatal(err)
	}
	for op, err := range everything(t.Context(), s) {
		if err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:1 cannot be reached") || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// A server on which nothing moves is given up. The error is not one that the
// caller would take for its own context's.
func TestStuckServer(t *testing.T) {
	middle := putBetween(t, versitygw.Start(t, bucket))
	middle.misbehave(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	o := s3.Options{
		Bucket: bucket, Endpoint: middle.url, Region: versitygw.Region, AccessKey: versitygw.AccessKey,
		SecretKey: versitygw.SecretKey, Timeout: 500 * time.Millisecond, Retries: 1,
	}
	s, err := s3.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for op, err := range everything(t.Context(), s) {
		if err == nil || !strings.Contains(err.Error(), "does not answer within 500ms") || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", op, err)
		}
	}
	// Slow, but moving, is not stuck: each byte has its own time.
	middle.misbehave(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Length", "12")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		for range 12 {
			io.WriteString(w, "x")
			http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	})
	r, err := s.Get(t.Context(), nameOf("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || len(b) != 12 {
		t.Errorf("a slow object: %d bytes, %v", len(b), err)
	}
}

func TestFailingServer(t *testing.T) {
	middle := putBetween(t, versitygw.Start(t, bucket))
	o := s3.Options{
		Bucket: bucket, Endpoint: middle.url, Region: versitygw.Region, AccessKey: versitygw.AccessKey,
		SecretKey: versitygw.SecretKey, Retries: 2, Prefix: prefix,
	}
	s := open(t, o)
	var failures atomic.Int64
	middle.misbehave(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if failures.Add(1)%2 == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		pass.ServeHTTP(w, r)
	})
	put(t, s, "every second request fails")
	if err := s.Swap(t.Context(), ".cvmfspublished", nil, []byte("one")); err != nil {
		t.Error(err)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	middle.misbehave(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, "down", http.StatusServiceUnavailable)
	})
	if err := s.Put(t.Context(), nameOf("y"), []byte("y")); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("put to a server that is down: %v", err)
	}
}

// The answer to a put may be lost on the way though the put took place: the
// client sends it again and is refused because of itself.
func TestLostAnswers(t *testing.T) {
	middle := putBetween(t, versitygw.Start(t, bucket))
	o := s3.Options{
		Bucket: bucket, Endpoint: middle.url, Region: versitygw.Region, AccessKey: versitygw.AccessKey,
		SecretKey: versitygw.SecretKey, Prefix: prefix,
	}
	s := open(t, o)
	var lost atomic.Int64
	loseFirst := func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPut && lost.CompareAndSwap(0, 1) {
			pass.ServeHTTP(discard{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		}
		pass.ServeHTTP(w, r)
	}
	middle.misbehave(loseFirst)
	if err := s.Swap(t.Context(), ".cvmfspublished", nil, []byte("one")); err != nil || lost.Load() != 1 {
		t.Errorf("swap: %v", err)
	}
	lost.Store(0)
	put(t, s, "object")
	lost.Store(0)
	unlock, err := s.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatalf("lock: %v", err)
	}
	lost.Store(0)
	if err := unlock(); err != nil {
		t.Errorf("unlock: %v", err)
	}
	// Another's swap to the very same bytes is not ours.
	middle.misbehave(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPut && lost.CompareAndSwap(1, 2) {
			other, err := s3.Open(o)
			if err == nil {
				err = other.Swap(r.Context(), ".cvmfspublished", []byte("one"), []byte("two"))
			}
			if err != nil {
				t.Error(err)
			}
		}
		pass.ServeHTTP(w, r)
	})
	if err := s.Swap(t.Context(), ".cvmfspublished", []byte("one"), []byte("two")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the other's swap was taken for ours: %v", err)
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// A server that says it has stored what it has not is found out before a
// manifest says so too, and what is missing can be put again.
func TestLyingServer(t *testing.T) {
	server := versitygw.Start(t, bucket)
	middle := putBetween(t, server)
	o := options(server, prefix)
	o.Endpoint = middle.url
	s := open(t, o)
	unlock, err := s.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	victim := nameOf("5")
	middle.misbehave(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, victim) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"e4da3b7fbbce2345d7772b0674a318d5"`)
			return
		}
		pass.ServeHTTP(w, r)
	})
	for _, c := range strings.Split("0123456789", "") {
		put(t, s, c)
	}
	for range 2 { // it stays unsaid that all is well
		if err := s.Sync(t.Context()); !errors.Is(err, s3.ErrNotStored) || !strings.Contains(err.Error(), victim) {
			t.Fatalf("Sync: %v, want that %s is missing", err, victim)
		}
	}
	middle.misbehave(nil)
	if _, ok, err := s.Has(t.Context(), victim); ok || err != nil {
		t.Errorf("Has still believes the server: %v, %v", ok, err)
	}
	put(t, s, "5")
	if err := s.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	// One cut short is as bad.
	name := put(t, s, "a longer object")
	if err := os.Truncate(filepath.Join(server.Dir, bucket, prefix, name), 3); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(t.Context()); !errors.Is(err, s3.ErrNotStored) || !strings.Contains(err.Error(), "3 bytes instead of 15") {
		t.Errorf("Sync: %v", err)
	}
	put(t, s, "a longer object")
	if err := s.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

// A server that ignores conditions would let two publishers undo each other.
func TestUnconditionalServer(t *testing.T) {
	server := versitygw.Start(t, bucket)
	middle := putBetween(t, server)
	o := options(server, prefix)
	o.Endpoint = middle.url
	s := open(t, o)
	middle.misbehave(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPut {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"e4da3b7fbbce2345d7772b0674a318d5"`)
			return
		}
		pass.ServeHTTP(w, r)
	})
	if _, err := s.Lock(t.Context(), "anna"); !errors.Is(err, s3.ErrUnconditional) {
		t.Errorf("Lock: %v", err)
	}
}
