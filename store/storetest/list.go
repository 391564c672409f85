package storetest

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/store"
)

func list(t *testing.T, l store.Lister, prefix string) map[string]int64 {
	t.Helper()
	got := make(map[string]int64)
	err := l.List(t.Context(), prefix, func(name string, size int64) error {
		if _, twice := got[name]; twice {
			t.Errorf("List(%q) names %s twice", prefix, name)
		}
		got[name] = size
		return nil
	})
	if err != nil {
		t.Errorf("List(%q): %v", prefix, err)
	}
	return got
}

func testList(t *testing.T, s store.Store) {
	l, ok := s.(store.Lister)
	if !ok {
		t.Skipf("%T is no store.Lister", s)
	}
	if got := list(t, l, ""); len(got) != 0 {
		t.Errorf("a new store holds %v", got)
	}
	all := map[string]int64{}
	add := func(name string, size int) {
		put(t, s, name, content(1, size))
		all[name] = int64(size)
	}
	for i := range 40 {
		add(objectName([]byte{byte(i)}), i)
	}
	add("data/5f/98f7f4ca7585d850eea64610a1f73d8f8de7a3P", 7)
	add("data/5f/98f7f4ca7585d850eea64610a1f73d8f8de7a4C", 8)
	add(".cvmfspublished", 9)
	add(".cvmfswhitelist", 10)
	unlock, err := s.Lock(t.Context(), "lister") // whose traces are not listed
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "data", "data/", "data/5", "data/5f", "data/5f/", "data/5f/98f7", ".cvmfs", ".cvmfsw", "x", "data/5f/98f7f4ca7585d850eea64610a1f73d8f8de7a3P"} {
		want := maps.Clone(all)
		maps.DeleteFunc(want, func(name string, _ int64) bool { return !strings.HasPrefix(name, prefix) })
		if got := list(t, l, prefix); !maps.Equal(got, want) {
			t.Errorf("List(%q) = %v, want %v", prefix, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if aged, ok := s.(store.AgedLister); ok {
		testListAged(t, aged, all)
	}
	enough := errors.New("enough")
	calls := 0
	if err := l.List(t.Context(), "data/", func(string, int64) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("yield's error after %d calls: %v", calls, err)
	}
	for _, prefix := range []string{"/", "../", "data/../", "/etc"} {
		if err := l.List(t.Context(), prefix, func(name string, _ int64) error { return nil }); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("List(%q): %v, want fs.ErrInvalid", prefix, err)
		}
	}
}

// testListAged compares with what List says. Nothing can be younger than it is,
// but for the difference of two clocks, or have no age at all.
func testListAged(t *testing.T, l store.AgedLister, want map[string]int64) {
	t.Helper()
	got := map[string]int64{}
	err := l.ListAged(t.Context(), "", func(name string, size int64, put time.Time) error {
		got[name] = size
		if age := time.Since(put); age > 24*time.Hour || age < -time.Hour {
			t.Errorf("%s was put at %s", name, put)
		}
		return nil
	})
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("ListAged names %v, want %v; %v", got, want, err)
	}
	if err := l.ListAged(t.Context(), "../", func(string, int64, time.Time) error { return nil }); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ListAged of a bad prefix: %v", err)
	}
}

func testDelete(t *testing.T, s store.Store) {
	d, ok := s.(store.Deleter)
	if !ok {
		t.Skipf("%T is no store.Deleter", s)
	}
	name, other := objectName([]byte("x")), objectName([]byte("y"))
	put(t, s, name, []byte("x"))
	put(t, s, other, []byte("y"))
	for range 2 { // the second time it is not there
		if err := d.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
		absent(t, s, name)
	}
	holds(t, s, other, []byte("y"))
	for _, name := range []string{"data", "data/5f", other + "/z", ".cvmfspublished"} {
		if err := d.Delete(t.Context(), name); err != nil {
			t.Errorf("Delete(%s), which is no file: %v", name, err)
		}
	}
	holds(t, s, other, []byte("y"))
	put(t, s, name, []byte("x"))
	holds(t, s, name, []byte("x"))
}
