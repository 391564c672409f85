package s3_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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
	o.Lease, o.Retries = time.Second, 1
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
	o.Endpoint, o.Lease = middle.url, 500*time.Millisecond
	s := open(t, o)
	unlock, err := s.Lock(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	renewal := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".rootstock.lock") && r.Header.Get("If-Match") != ""
	}
	for middle.count(renewal) < 12 { // more than two leases
		time.Sleep(10 * time.Millisecond)
	}
	put(t, s, "still the holder")
	if err := unlock(); err != nil {
		t.Error(err)
	}
	middle.misbehave(nil)
	time.Sleep(2 * o.Lease)
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
	o.Lease = 500 * time.Millisecond
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
