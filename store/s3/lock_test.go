package s3_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/internal/versitygw"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/s3"
)

// A publisher that died, or was cut off, leaves a lock that others take over
// once its lease has run out; should it wake up again, it writes nothing more.
func TestForsakenLock(t *testing.T) {
	server := versitygw.Start(t, bucket)
	middle := putBetween(t, server)
	o := options(server, prefix)
	o.Lease, o.Retries = 2*time.Second, 1
	b := open(t, o)
	o.Endpoint = middle.url
	a := open(t, o)
	unlockA, err := a.Lock(t.Context(), "anna@host 42")
	if err != nil {
		t.Fatal(err)
	}
	middle.misbehave(func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) })
	var unlockB func() error
	for tries := 0; ; tries++ {
		if unlockB, err = b.Lock(t.Context(), "bert"); err == nil {
			break
		}
		if !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "anna@host 42") {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	middle.misbehave(nil)
	for a.Put(t.Context(), ".cvmfsreflog", []byte("x")) == nil { // until it has noticed
		time.Sleep(20 * time.Millisecond)
	}
	for op, err := range map[string]error{
		"Put": a.Put(t.Context(), nameOf("x"), []byte("x")), "Sync": a.Sync(t.Context()),
		"Swap": a.Swap(t.Context(), ".cvmfspublished", nil, []byte("x")), "Delete": a.Delete(t.Context(), nameOf("x")),
		"unlock": unlockA(),
	} {
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s by who lost the lock: %v", op, err)
		}
	}
	if _, err := a.Lock(t.Context(), "anna"); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "bert") {
		t.Errorf("the lock after the old holder's unlock: %v", err)
	}
	if err := unlockB(); err != nil {
		t.Error(err)
	}
	// With the lock taken anew, it may write again.
	unlockA, err = a.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	put(t, a, "x")
	if err := unlockA(); err != nil {
		t.Error(err)
	}
}

// A lock is renewed for as long as it is held.
func TestLockIsRenewed(t *testing.T) {
	server := versitygw.Start(t, bucket)
	middle := putBetween(t, server)
	o := options(server, prefix)
	// On a busy machine a renewal takes its time, too.
	o.Endpoint, o.Lease = middle.url, 2*time.Second
	s := open(t, o)
	unlock, err := s.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	renewal := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".rootstock.lock") && r.Header.Get("If-Match") != ""
	}
	for began := time.Now(); middle.count(renewal) < 6; { // more than a lease
		if time.Since(began) > time.Minute {
			t.Fatalf("%d renewals", middle.count(renewal))
		}
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	put(t, s, "still the holder")
	if err := unlock(); err != nil {
		t.Error(err)
	}
	middle.misbehave(nil)
	time.Sleep(o.Lease / 2) // two renewals
	if n := middle.count(renewal); n != 0 {
		t.Errorf("%d renewals after unlock", n)
	}
}

// What cannot be read may well be somebody's lock.
func TestStrangeLock(t *testing.T) {
	server := versitygw.Start(t, bucket)
	s, err := s3.Open(options(server, prefix))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(server.Dir, bucket, prefix)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".rootstock.lock"), []byte("\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lock(t.Context(), "anna"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("%v", err)
	}
}

// A holder that others have declared dead is told by whom, at its next renewal.
func TestLockTakenOver(t *testing.T) {
	server := versitygw.Start(t, bucket)
	o := options(server, prefix)
	o.Lease = 2 * time.Second
	a, b := open(t, o), open(t, o)
	unlock, err := a.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(server.Dir, bucket, prefix, ".rootstock.lock")); err != nil {
		t.Fatal(err)
	}
	unlockB, err := b.Lock(t.Context(), "bert")
	if err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; time.Sleep(10 * time.Millisecond) {
		err = a.Put(t.Context(), ".cvmfsreflog", []byte("x"))
	}
	if !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "bert has taken over") {
		t.Errorf("%v", err)
	}
	if err := unlock(); !errors.Is(err, store.ErrConflict) {
		t.Errorf("unlock: %v", err)
	}
	if err := unlockB(); err != nil {
		t.Error(err)
	}
}

// Of two that find a lock forsaken one gets it, and the other is told who.
func TestTwoTakeOver(t *testing.T) {
	server := versitygw.Start(t, bucket)
	middle := putBetween(t, server)
	o := options(server, prefix)
	a, b := open(t, o), open(t, o)
	o.Endpoint = middle.url
	c := open(t, o)
	unlockA, err := a.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	defer unlockA() // which has lost it
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(server.Dir, bucket, prefix, ".rootstock.lock"), then, then); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	middle.misbehave(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodPut { // c has looked, and is about to take it
			once.Do(func() {
				unlock, err := b.Lock(t.Context(), "bert")
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() {
					if err := unlock(); err != nil {
						t.Error(err)
					}
				})
			})
		}
		pass.ServeHTTP(w, r)
	})
	if _, err := c.Lock(t.Context(), "carl"); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "bert") {
		t.Errorf("carl, too: %v", err)
	}
}

// How old a lock is, is told by the server's clock, whatever time it is here.
func TestLockAgeByTheServersClock(t *testing.T) {
	server := versitygw.Start(t, bucket)
	middle := putBetween(t, server)
	o := options(server, prefix)
	a := open(t, o)
	o.Endpoint = middle.url
	b := open(t, o)
	unlock, err := a.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	middle.misbehave(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		answer := httptest.NewRecorder()
		pass.ServeHTTP(answer, r)
		for k, v := range answer.Header() {
			if then, err := http.ParseTime(v[0]); err == nil && (k == "Date" || k == "Last-Modified") {
				v = []string{then.Add(-time.Hour).Format(http.TimeFormat)}
			}
			w.Header()[k] = v
		}
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
	})
	if _, err := b.Lock(t.Context(), "bert"); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "anna") {
		t.Errorf("with a server whose clock is an hour behind: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
