package local_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
)

// Whoever finds the lock taken waits while somebody shares it, and is refused
// otherwise.
func TestSharedLock(t *testing.T) {
	dir := t.TempDir()
	open := func() *local.Store {
		s, err := local.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	long, short := open(), open()
	unlock, err := long.Lock(t.Context(), "a sync")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := short.Lock(t.Context(), "me"); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a lock that nobody shares: %v", err)
	}
	done, err := long.Share(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if awaited, err := long.Awaited(t.Context()); awaited || err != nil {
		t.Fatalf("nobody waits: %v, %v", awaited, err)
	}
	await := func() <-chan error {
		got := make(chan error, 1)
		go func() {
			unlock, err := short.Lock(t.Context(), "me")
			if err == nil {
				err = unlock()
			}
			got <- err
		}()
		for {
			awaited, err := long.Awaited(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if awaited {
				return got
			}
			time.Sleep(time.Millisecond)
		}
	}
	got := await()
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("a turn: %v", err)
	}
	if awaited, err := long.Awaited(t.Context()); awaited || err != nil {
		t.Errorf("who had a turn still waits: %v, %v", awaited, err)
	}

	// One who waits gets away.
	if unlock, err = long.Lock(t.Context(), "a sync"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() {
		_, err := open().Lock(ctx, "me")
		cancelled <- err
	}()
	got = await()
	cancel()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// When nobody shares any more, who waits is refused with the holder's name.
	if err := done(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, store.ErrConflict) {
		t.Errorf("no longer shared: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
