package storetest

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/rootstock-cf/rootstock/store"
)

func testDraft(t *testing.T, s store.Store) {
	to, ok := s.(store.Drafter)
	if !ok {
		return
	}
	begin := func(name string, pieces ...[]byte) store.Draft {
		d, err := to.Draft(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pieces {
			if n, err := d.Write(p); err != nil || n != len(p) {
				t.Fatalf("Write: %d, %v", n, err)
			}
		}
		return d
	}
	shut := func(d store.Draft) {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	commit := func(d store.Draft, want int64) {
		if size, err := d.Commit(t.Context()); err != nil || size != want {
			t.Errorf("Commit = %d, %v; want %d", size, err, want)
		}
		shut(d)
	}

	whole := content(1, 300_000)
	name := objectName(whole)
	d := begin(name, whole[:1], whole[1:200_000])
	absent(t, s, name)
	if l, ok := s.(store.Lister); ok {
		if got := list(t, l, ""); len(got) != 0 {
			t.Errorf("a draft is listed: %v", got)
		}
	}
	if _, err := d.Write(whole[200_000:]); err != nil {
		t.Fatal(err)
	}
	commit(d, int64(len(whole)))
	holds(t, s, name, whole)

	// Another source was needed: what the first sent was longer.
	second := content(2, 1000)
	d = begin(objectName(second), content(3, 5000))
	if err := errors.Join(d.Reset(), d.Reset()); err != nil {
		t.Fatal(err)
	}
	absent(t, s, objectName(second))
	if _, err := d.Write(second); err != nil {
		t.Fatal(err)
	}
	commit(d, int64(len(second)))
	holds(t, s, objectName(second), second)

	// Given up, and too late.
	third := content(4, 1000)
	shut(begin(objectName(third), third))
	absent(t, s, objectName(third))
	d = begin(objectName(third), third)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Commit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v, want context.Canceled", err)
	}
	shut(d)
	absent(t, s, objectName(third))
	if d, err := to.Draft(ended, objectName(third)); !errors.Is(err, context.Canceled) {
		t.Errorf("Draft: %v, %v, want context.Canceled", d, err)
	}

	// An object that is there is left, or replaced by the same.
	commit(begin(name, whole), int64(len(whole)))
	holds(t, s, name, whole)

	commit(begin(objectName(nil)), 0)
	holds(t, s, objectName(nil), nil)

	for _, name := range []string{"", ".cvmfspublished", "data", "data/txn/x", "data/../x", "../x"} {
		if d, err := to.Draft(t.Context(), name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Draft(%q): %v, %v, want fs.ErrInvalid", name, d, err)
		}
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Error(err)
	}
}
