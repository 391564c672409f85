// Package storetest is what every store.Store must keep to, as tests. An
// implementation calls [Run] from a test of its own with a function that makes
// an empty store.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
)

// Run runs the suite. Open returns a new, empty store each time; it registers
// with t.Cleanup whatever has to be given back. What a store can do besides
// (store.Lister, store.Deleter) is tested if it can.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"Absent", testAbsent},
		{"RoundTrip", testRoundTrip},
		{"Objects are left", testObjectsAreLeft},
		{"Root files are replaced", testRootFiles},
		{"Data stays the caller's", testDataIsCopied},
		{"Draft", testDraft},
		{"Names", testNames},
		{"Cancel", testCancel},
		{"Swap", testSwap},
		{"Concurrent swaps", testConcurrentSwaps},
		{"Concurrent puts", testConcurrentPuts},
		{"Swap is atomic", testSwapIsAtomic},
		{"Lock", testLock},
		{"Concurrent locks", testConcurrentLocks},
		{"List", testList},
		{"Delete", testDelete},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, open(t)) })
	}
}

// objectName names content as a repository without compression would.
func objectName(content []byte) string {
	return object.Path(object.SHAKE128.Sum(content), object.Bulk)
}

// content makes n bytes that differ for each seed and do not repeat soon.
func content(seed byte, n int) []byte {
	b := make([]byte, n)
	x := uint32(seed)<<8 | 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func put(t testing.TB, s store.Store, name string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, data); err != nil {
		t.Fatalf("Put(%s): %v", name, err)
	}
}

func get(ctx context.Context, s store.Store, name string) ([]byte, error) {
	r, err := s.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// holds checks that name has this content, by Get and Has.
func holds(t testing.TB, s store.Store, name string, want []byte) {
	t.Helper()
	if got, err := get(t.Context(), s, name); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Get(%s) = %d bytes %.40q, %v; want %d bytes %.40q", name, len(got), got, err, len(want), want)
	}
	if size, ok, err := s.Has(t.Context(), name); err != nil || !ok || size != int64(len(want)) {
		t.Errorf("Has(%s) = %d, %v, %v; want %d", name, size, ok, err, len(want))
	}
}

// absent checks that name is not there.
func absent(t testing.TB, s store.Store, name string) {
	t.Helper()
	if got, err := get(t.Context(), s, name); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("Get(%s) = %.40q, %v; want ErrNotExist", name, got, err)
	}
	if size, ok, err := s.Has(t.Context(), name); err != nil || ok {
		t.Errorf("Has(%s) = %d, %v, %v; want false", name, size, ok, err)
	}
}

func testAbsent(t *testing.T, s store.Store) {
	for _, name := range []string{
		objectName([]byte("nothing")), ".cvmfspublished", "data", "data/5f", "data/5f/x/y", ".cvmfspublished/x",
	} {
		absent(t, s, name)
	}
	put(t, s, ".cvmfsreflog", []byte("x"))
	absent(t, s, ".cvmfsreflog/x")
}

func testRoundTrip(t *testing.T, s store.Store) {
	all := map[string][]byte{
		".cvmfswhitelist":    []byte("\x00\xff\n--\n"),
		".cvmfsreflog":       {},
		".cvmfs_status.json": []byte("{}"),
	}
	for i, n := range []int{0, 1, 4095, 4096, 65537, 1 << 20, 9<<20 + 1} {
		b := content(byte(i), n)
		all[objectName(b)] = b
		all[objectName(b)+"C"] = content(byte(i), n/2) // names do not have to be true here
	}
	for name, b := range all {
		put(t, s, name, b)
	}
	for name, b := range all {
		holds(t, s, name, b)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, b := range all {
		holds(t, s, name, b)
	}
}

func testObjectsAreLeft(t *testing.T, s store.Store) {
	name := objectName([]byte("first"))
	put(t, s, name, []byte("first"))
	put(t, s, name, []byte("other"))
	holds(t, s, name, []byte("first"))
}

func testRootFiles(t *testing.T, s store.Store) {
	put(t, s, ".cvmfsreflog", content(1, 5000))
	put(t, s, ".cvmfsreflog", []byte("short"))
	holds(t, s, ".cvmfsreflog", []byte("short"))
}

func testDataIsCopied(t *testing.T, s store.Store) {
	b := content(1, 1000)
	want := bytes.Clone(b)
	name := objectName(b)
	put(t, s, name, b)
	if err := s.Swap(t.Context(), ".cvmfspublished", nil, b); err != nil {
		t.Fatal(err)
	}
	clear(b)
	holds(t, s, name, want)
	holds(t, s, ".cvmfspublished", want)
}

// Whatever a name could be bent to, nothing is read or written elsewhere.
func testNames(t *testing.T, s store.Store) {
	for _, name := range []string{
		"", ".", "..", "/", "/etc/passwd", "../x", "data/../x", "data/..", "data//x", "data/./x", "x/",
		"./x", "a\x00b", "a\nb", "a b", `a\b`, "ä", "data/txn", "data/txn/x", ".rootstock.lock", ".rootstock/x",
		"data/" + strings.Repeat("x", 2000),
	} {
		for op, err := range map[string]error{
			"Put":  s.Put(t.Context(), name, []byte("x")),
			"Swap": s.Swap(t.Context(), name, nil, []byte("x")),
			"Get":  second(get(t.Context(), s, name)),
			"Has":  third(s.Has(t.Context(), name)),
		} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s(%.60q): %v, want fs.ErrInvalid", op, name, err)
			}
		}
		if d, ok := s.(store.Deleter); ok {
			if err := d.Delete(t.Context(), name); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("Delete(%.60q): %v, want fs.ErrInvalid", name, err)
			}
		}
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

func testCancel(t *testing.T, s store.Store) {
	put(t, s, ".cvmfswhitelist", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	name := objectName([]byte("x"))
	unlock, lerr := s.Lock(ctx, "nobody")
	if lerr == nil {
		lerr = errors.Join(errors.New("locked"), unlock())
	}
	for op, err := range map[string]error{
		"Put":  s.Put(ctx, name, []byte("x")),
		"Swap": s.Swap(ctx, ".cvmfspublished", nil, []byte("x")),
		"Get":  second(get(ctx, s, ".cvmfswhitelist")),
		"Has":  third(s.Has(ctx, ".cvmfswhitelist")),
		"Sync": s.Sync(ctx),
		"Lock": lerr,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", op, err)
		}
	}
	absent(t, s, name)
	absent(t, s, ".cvmfspublished")
	if l, ok := s.(store.Lister); ok {
		err := l.List(ctx, "", func(name string, _ int64) error { return fmt.Errorf("listed %s", name) })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("List: %v, want context.Canceled", err)
		}
	}
}
