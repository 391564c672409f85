package ingest_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/ingest"
)

func openIndex(t testing.TB, dir string, o ingest.Options) *ingest.Index {
	t.Helper()
	x, err := ingest.OpenIndex(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// indexed runs with an index in dir.
func indexed(t testing.TB, m *memory, dir string, all [][]byte) *ingest.Ingester {
	t.Helper()
	o := options(2)
	o.Index = openIndex(t, dir, o)
	in := run(t, m, o, all)
	if err := o.Index.Close(); err != nil {
		t.Fatal(err)
	}
	return in
}

func indexFile(t testing.TB, dir string) string {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.index")
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	return names[0]
}

func TestIndex(t *testing.T) {
	all, dir, m := contents(), filepath.Join(t.TempDir(), "new", "index"), newMemory()
	first := indexed(t, m, dir, all)
	before, err := os.ReadFile(indexFile(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	second := indexed(t, m, dir, all)
	for _, b := range all {
		want, _ := first.Stored(object.ContentOf(b))
		if got, ok := second.Stored(object.ContentOf(b)); !ok || !cmp.Equal(got, want) {
			t.Fatalf("%v, %s", ok, cmp.Diff(want, got))
		}
	}
	if n := second.Counters(); n.ObjectsNew != 0 || n.ObjectsKnown != first.Counters().ObjectsNew {
		t.Errorf("second run counted %+v", n)
	}
	if after, err := os.ReadFile(indexFile(t, dir)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("index of %d bytes grew to %d by an unchanged run, %v", len(before), len(after), err)
	}

	// The index is believed only of what the store has: with an empty store
	// everything is stored again.
	empty := newMemory()
	indexed(t, empty, dir, all)
	if !maps.EqualFunc(m.objects, empty.objects, bytes.Equal) {
		t.Error("another store got other objects because of the index")
	}
}

// That nothing is compressed again can be told from what happens when the
// index names an object that the bytes do not compress to.
func TestIndexSavesCompression(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	x, y := []byte("x"), []byte("y")
	indexed(t, m, dir, [][]byte{x, y})
	// An index of the contents' names exchanged, as records of equal length.
	name := indexFile(t, dir)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at, bt := bytes.Index(b, idOf(x)), bytes.Index(b, idOf(y))
	if at < 0 || bt < 0 {
		t.Fatal("index does not hold the contents")
	}
	for i := range 20 {
		b[at+48+i], b[bt+48+i] = b[bt+48+i], b[at+48+i]
	}
	if err := os.WriteFile(name, ingest.Reseal(b), 0o600); err != nil {
		t.Fatal(err)
	}
	in := indexed(t, m, dir, [][]byte{x})
	s, _ := in.Stored(object.ContentOf(x))
	if got, err := m.read(s); err != nil || !bytes.Equal(got, y) {
		t.Errorf("the index was not used: %q, %v", got, err)
	}
}

func idOf(b []byte) []byte {
	id := object.ContentOf(b)
	return id[:]
}

func TestAdopt(t *testing.T) {
	all, dir, m := contents(), t.TempDir(), newMemory()
	first := indexed(t, m, dir, all)
	o := options(1)
	o.Index = openIndex(t, dir, o)
	defer o.Index.Close() //nolint:errcheck
	in, err := ingest.New(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		id := object.ContentOf(b)
		if ok, err := in.Adopt(t.Context(), id); !ok || err != nil {
			t.Fatalf("content of %d bytes: %v, %v", len(b), ok, err)
		}
		want, _ := first.Stored(id)
		if got, ok := in.Stored(id); !ok || !cmp.Equal(got, want) {
			t.Fatalf("content of %d bytes: %v, %s", len(b), ok, cmp.Diff(want, got))
		}
	}
	if ok, err := in.Adopt(t.Context(), object.ContentID{1}); ok || err != nil {
		t.Errorf("unknown content: %v, %v", ok, err)
	}
	if err := in.Wait(); err != nil {
		t.Error(err)
	}
	// Not a byte of which the store has lost.
	large := object.ContentOf(contents()[5])
	s, _ := in.Stored(large)
	delete(m.objects, object.Path(s.Chunks[len(s.Chunks)-1].Hash, object.Partial))
	in, err = ingest.New(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := in.Adopt(t.Context(), large); ok || err != nil {
		t.Errorf("content whose last piece is gone: %v, %v", ok, err)
	}
	if _, ok := in.Stored(large); ok {
		t.Error("content whose last piece is gone is stored")
	}
}

// Whatever happens to the file's tail, what precedes it is used and the run
// makes it whole again.
func TestIndexSurvivesDamage(t *testing.T) {
	all, dir, m := contents()[:40], t.TempDir(), newMemory()
	indexed(t, m, dir, all)
	name := indexFile(t, dir)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	o := options(1)
	x := openIndex(t, dir, o)
	full := x.Len()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 16 {
		at := len(good) * i / 16
		for damage, b := range map[string][]byte{
			"truncated": good[:at],
			"zeros":     append(bytes.Clone(good[:at]), make([]byte, 5000)...),
			"flipped":   flip(good, at),
			"garbage":   append(bytes.Clone(good[:at]), bytes.Repeat([]byte{2, 0xff, 1}, 100)...),
		} {
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			x := openIndex(t, dir, o)
			if n := x.Len(); n >= full && at < len(good)/2 || n > full {
				t.Errorf("%s at %d: %d of %d records", damage, at, n, full)
			} else if at > len(good)/2 && n == 0 {
				t.Errorf("%s at %d: nothing left", damage, at)
			}
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			if n := indexed(t, m, dir, all).Counters(); n.ObjectsNew != 0 {
				t.Fatalf("%s at %d: %+v", damage, at, n)
			}
			x = openIndex(t, dir, o)
			if n := x.Len(); n != full {
				t.Errorf("%s at %d: %d of %d records after the next run", damage, at, n, full)
			}
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x10
	return b
}

func TestIndexIsLockedAndKeyed(t *testing.T) {
	dir, o := t.TempDir(), options(1)
	x := openIndex(t, dir, o)
	if _, err := ingest.OpenIndex(dir, o); !errors.Is(err, ingest.ErrBusy) {
		t.Errorf("second opening: %v", err)
	}
	for name, change := range map[string]func(*ingest.Options){
		"compression": func(o *ingest.Options) { o.Compression = object.Zlib },
		"algorithm":   func(o *ingest.Options) { o.Algorithm = object.SHA1 },
		"chunking":    func(o *ingest.Options) { o.Chunking.Max++ },
	} {
		other := o
		change(&other)
		y, err := ingest.OpenIndex(dir, other)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := y.Close(); err != nil {
			t.Error(err)
		}
		other.Index = x
		if _, err := ingest.New(t.Context(), newMemory(), other); err == nil {
			t.Errorf("%s: index of another accepted", name)
		}
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	x = openIndex(t, dir, o)
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkOpenIndex(b *testing.B) {
	dir := b.TempDir()
	var all [][]byte
	for i := range 40_000 {
		all = append(all, fmt.Append(nil, i))
	}
	indexed(b, newMemory(), dir, all)
	b.ReportAllocs()
	for b.Loop() {
		x := openIndex(b, dir, options(1))
		if x.Len() != len(all) {
			b.Fatal(x.Len())
		}
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
