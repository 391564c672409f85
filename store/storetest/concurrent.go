package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/store"
)

const manifestName = ".cvmfspublished"

func testSwap(t *testing.T, s store.Store) {
	for _, step := range []struct {
		why       string
		old, next []byte
		want      error
		then      []byte // nil: absent
	}{
		{"replaces what is not there", []byte("x"), []byte("y"), store.ErrConflict, nil},
		{"replaces nothing by an empty file", []byte{}, []byte("y"), store.ErrConflict, nil},
		{"first", nil, []byte("one"), nil, []byte("one")},
		{"first again", nil, []byte("one"), store.ErrConflict, []byte("one")},
		{"expects another", []byte("two"), []byte("three"), store.ErrConflict, []byte("one")},
		{"expects a part", []byte("on"), []byte("three"), store.ErrConflict, []byte("one")},
		{"expects more", []byte("one!"), []byte("three"), store.ErrConflict, []byte("one")},
		{"expects it empty", []byte{}, []byte("three"), store.ErrConflict, []byte("one")},
		{"next", []byte("one"), []byte("two"), nil, []byte("two")},
		{"the same", []byte("two"), []byte("two"), nil, []byte("two")},
		{"empties it", []byte("two"), []byte{}, nil, []byte{}},
		{"from empty", []byte{}, []byte("three"), nil, []byte("three")},
	} {
		if err := s.Swap(t.Context(), manifestName, step.old, step.next); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.why, err, step.want)
		}
		if step.then == nil {
			absent(t, s, manifestName)
		} else {
			holds(t, s, manifestName, step.then)
		}
	}
}

// Many count in one file. None of their steps may be lost.
func testConcurrentSwaps(t *testing.T, s store.Store) {
	const workers, steps = 4, 10
	if err := s.Swap(t.Context(), manifestName, nil, []byte("0")); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for done := 0; done < steps; {
				old, err := get(t.Context(), s, manifestName)
				if err != nil {
					t.Error(err)
					return
				}
				n, err := strconv.Atoi(string(old))
				if err != nil {
					t.Error(err)
					return
				}
				switch err := s.Swap(t.Context(), manifestName, old, []byte(strconv.Itoa(n+1))); {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	holds(t, s, manifestName, []byte(strconv.Itoa(workers*steps)))
}

// Many put the same objects. Who sees one, sees all of it.
func testConcurrentPuts(t *testing.T, s store.Store) {
	const workers, objects = 4, 12
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range objects {
				b := content(byte(i), 200_000+i)
				if err := s.Put(t.Context(), objectName(b), b); err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			for i := range objects {
				want := content(byte(i), 200_000+i)
				got, err := get(t.Context(), s, objectName(want))
				if errors.Is(err, store.ErrNotExist) {
					continue
				}
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("object %d while it is put: %d bytes, %v", i, len(got), err)
				}
			}
		})
	}
	group.Go(func() {
		if err := s.Sync(t.Context()); err != nil {
			t.Error(err)
		}
	})
	group.Wait()
	for i := range objects {
		b := content(byte(i), 200_000+i)
		holds(t, s, objectName(b), b)
	}
}

// A reader sees the file before a swap or after it, never in between, and
// never none.
func testSwapIsAtomic(t *testing.T, s store.Store) {
	versions := make([][]byte, 8)
	for i := range versions {
		versions[i] = bytes.Repeat([]byte{byte('a' + i)}, 100_000+i)
	}
	if err := s.Swap(t.Context(), manifestName, nil, versions[0]); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var seen atomic.Int64
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for ctx.Err() == nil {
				got, err := get(t.Context(), s, manifestName)
				if err != nil || len(got) == 0 {
					t.Errorf("%d bytes, %v", len(got), err)
					return
				}
				if i := int(got[0] - 'a'); i >= len(versions) || !bytes.Equal(got, versions[i]) {
					t.Errorf("%d bytes that begin with %q", len(got), got[0])
					return
				}
				seen.Add(1)
			}
		})
	}
	for round := range 3 {
		for i := range versions {
			next := (i + 1) % len(versions)
			if err := s.Swap(t.Context(), manifestName, versions[i], versions[next]); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
	for seen.Load() == 0 && !t.Failed() { // a reader that never ran proves nothing
		if _, err := get(t.Context(), s, manifestName); err != nil {
			t.Error(err)
		}
	}
	stop()
	group.Wait()
}

func testLock(t *testing.T, s store.Store) {
	unlock, err := s.Lock(t.Context(), "anna@host 42")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := s.Lock(t.Context(), "bert")
		if !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "anna@host 42") {
			t.Errorf("second lock: %v, want ErrConflict that names the holder", err)
		}
	}
	// The holder goes on.
	put(t, s, objectName([]byte("x")), []byte("x"))
	if err := s.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Swap(t.Context(), manifestName, nil, []byte("x")); err != nil {
		t.Error(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	second, err := s.Lock(t.Context(), "bert")
	if err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	// To unlock twice must not take the lock from the next holder.
	if err := unlock(); err != nil {
		t.Errorf("unlock again: %v", err)
	}
	if _, err := s.Lock(t.Context(), "carl"); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "bert") {
		t.Errorf("third lock: %v", err)
	}
	if err := second(); err != nil {
		t.Error(err)
	}
}

// Of those who lock at once, exactly one is the publisher.
func testConcurrentLocks(t *testing.T, s store.Store) {
	var holders, most, got atomic.Int64
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for done := 0; done < 3; {
				unlock, err := s.Lock(t.Context(), fmt.Sprintf("worker %d", i))
				if errors.Is(err, store.ErrConflict) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n > 1 {
					most.Store(n)
				}
				got.Add(1)
				holders.Add(-1)
				if err := unlock(); err != nil {
					t.Error(err)
				}
				done++
			}
		})
	}
	group.Wait()
	if most.Load() > 1 || got.Load() != 12 {
		t.Errorf("%d held the lock at once, %d got it", most.Load(), got.Load())
	}
}
