package imagemeta_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

func stored(size int64, chunks ...int64) imagemeta.Stored {
	s := imagemeta.Stored{Size: size, Compression: object.Zstd}
	if len(chunks) == 0 {
		s.Hash = object.SHAKE128.Sum(fmt.Append(nil, size))
	}
	for i, c := range chunks {
		s.Chunks = append(s.Chunks, imagemeta.Chunk{Size: c, Hash: object.SHAKE128.Sum(fmt.Append(nil, size, i))})
	}
	return s
}

func row(name string, s imagemeta.Stored) imagemeta.Object {
	return imagemeta.Object{ID: object.ContentOf([]byte(name)), Stored: s}
}

func table(t testing.TB, objects []imagemeta.Object) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := imagemeta.EncodeObjects(&b, objects); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestObjects(t *testing.T) {
	old := stored(7)
	old.Compression, old.Hash = object.Zlib, object.SHA1.Sum([]byte("7"))
	objects := []imagemeta.Object{
		row("", stored(0)), row("a", stored(5)), row("b", stored(12, 5, 4, 3)),
		row("c", stored(1<<62, 1<<61, 1<<61)), row("d", stored(9, 9)), row("e", old),
	}
	b := table(t, objects)
	o, err := imagemeta.OpenObjects(b)
	if err != nil {
		t.Fatal(err)
	}
	if o.Len() != len(objects) {
		t.Errorf("%d contents, want %d", o.Len(), len(objects))
	}
	for _, want := range objects {
		if got, ok := o.Lookup(want.ID); !ok || !cmp.Equal(got, want.Stored) {
			t.Errorf("%s: %v, %s", want.ID, ok, cmp.Diff(want.Stored, got))
		}
	}
	if s, ok := o.Lookup(object.ContentOf([]byte("x"))); ok {
		t.Errorf("unknown content is %v", s)
	}
	if empty, err := imagemeta.OpenObjects(table(t, nil)); err != nil || empty.Len() != 0 {
		t.Errorf("empty table: %v", err)
	} else if _, ok := empty.Lookup(object.EmptyContent); ok {
		t.Error("empty table knows a content")
	}
	slices.Reverse(objects)
	if !bytes.Equal(table(t, objects), b) {
		t.Error("the table depends on the order of its contents")
	}
}

// Ids that differ late are told apart.
func TestLookupOfSimilarIDs(t *testing.T) {
	var objects []imagemeta.Object
	for i := range 9 {
		o := row("a", stored(int64(i+1)))
		o.ID[31], o.ID[20] = byte(i*2), byte(i)
		objects = append(objects, o)
	}
	o, err := imagemeta.OpenObjects(table(t, objects))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range objects {
		if got, ok := o.Lookup(want.ID); !ok || got.Size != want.Size {
			t.Errorf("%s: %v, %v", want.ID, got, ok)
		}
		want.ID[31]++
		if got, ok := o.Lookup(want.ID); ok {
			t.Errorf("%s: %v", want.ID, got)
		}
	}
}

// Ids may be anything: a lookup that expects them to be spread evenly finds
// those that are not, and no others.
func TestLookupOfUnevenIDs(t *testing.T) {
	for name, head := range map[string]func(i int) uint64{
		"even": func(i int) uint64 { return uint64(i) << 54 }, "all low": func(i int) uint64 { return uint64(i) },
		"all high": func(i int) uint64 { return ^uint64(0) - uint64(i) }, "one": func(int) uint64 { return 1 << 63 },
		"ends":    func(i int) uint64 { return -uint64(i&1) ^ uint64(i>>1) },
		"doubled": func(i int) uint64 { return 1 << (i % 64) },
	} {
		for _, n := range []int{1, 2, 3, 17, 33, 1000} {
			var objects []imagemeta.Object
			for i := range n {
				o := row("a", stored(int64(i+1)))
				binary.BigEndian.PutUint64(o.ID[:], head(i))
				binary.BigEndian.PutUint64(o.ID[8:], uint64(2*i+1))
				objects = append(objects, o)
			}
			o, err := imagemeta.OpenObjects(table(t, objects))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range objects {
				if got, ok := o.Lookup(want.ID); !ok || got.Size != want.Size {
					t.Errorf("%s, %d ids: %s: %v, %v", name, n, want.ID, got, ok)
				}
				for _, near := range []byte{want.ID[15] - 1, want.ID[15] + 1} {
					other := want.ID
					other[15] = near
					if got, ok := o.Lookup(other); ok {
						t.Errorf("%s, %d ids: %s: %v", name, n, other, got)
					}
				}
			}
		}
	}
}

func TestEncodeObjectsRefuses(t *testing.T) {
	both := stored(5, 5)
	both.Hash = object.SHA1.Sum(nil)
	mixed := stored(5, 2, 3)
	mixed.Chunks[1].Hash = object.SHA1.Sum(nil)
	for name, objects := range map[string][]imagemeta.Object{
		"twice":           {row("a", stored(5)), row("a", stored(5))},
		"negative":        {row("a", stored(-1))},
		"no bytes":        {row("a", stored(0))},
		"bytes of none":   {row("", stored(1))},
		"no hash":         {row("a", imagemeta.Stored{Size: 1})},
		"compression":     {row("a", imagemeta.Stored{Size: 1, Compression: 9, Hash: object.SHA1.Sum(nil)})},
		"both":            {row("a", both)},
		"two algorithms":  {row("a", mixed)},
		"short chunks":    {row("a", stored(5, 2, 2))},
		"long chunks":     {row("a", stored(5, 2, 4))},
		"empty chunk":     {row("a", stored(5, 5, 0))},
		"negative chunk":  {row("a", stored(5, 6, -1))},
		"overflow chunks": {row("a", stored(5, 1<<62, 1<<62, 1<<62, 1<<62, 5))},
	} {
		if err := imagemeta.EncodeObjects(&bytes.Buffer{}, objects); !errors.Is(err, imagemeta.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each change leaves a table that EncodeObjects would not have written.
func TestOpenObjectsRefuses(t *testing.T) {
	objects := []imagemeta.Object{row("a", stored(5)), row("b", stored(12, 5, 7)), row("c", stored(12, 5, 7))}
	good := table(t, objects) // sorts
	chunked := slices.IndexFunc(objects, func(o imagemeta.Object) bool { return len(o.Chunks) > 0 })
	records := 16 + len(objects)*32
	record, other := records+chunked*32, 0
	for i, o := range objects[chunked+1:] {
		if len(o.Chunks) > 0 {
			other = record + 32*(i+1)
		}
	}
	chunks := records + len(objects)*32
	for name, change := range map[string]func(b []byte) []byte{
		"short":             func(b []byte) []byte { return b[:len(b)-1] },
		"long":              func(b []byte) []byte { return append(b, 0) },
		"no header":         func(b []byte) []byte { return b[:10] },
		"version":           func(b []byte) []byte { b[7]++; return b },
		"count":             func(b []byte) []byte { b[8]++; return b },
		"huge count":        func(b []byte) []byte { binary.LittleEndian.PutUint64(b[8:], 1<<64-1); return b },
		"order":             func(b []byte) []byte { b[16] = 0xff; return b },
		"twice":             func(b []byte) []byte { copy(b[48:80], b[16:48]); return b },
		"compression":       func(b []byte) []byte { b[records+8] = 3; return b },
		"algorithm":         func(b []byte) []byte { b[records+9] = 0; return b },
		"kind":              func(b []byte) []byte { b[records+10] = 2; return b },
		"padding":           func(b []byte) []byte { b[records+11] = 1; return b },
		"negative":          func(b []byte) []byte { b[records+7] = 0x80; return b },
		"size zero":         func(b []byte) []byte { clear(b[records : records+8]); return b },
		"first chunk":       func(b []byte) []byte { b[record+12]++; return b },
		"chunk count":       func(b []byte) []byte { b[record+16]++; return b },
		"chunk count huge":  func(b []byte) []byte { copy(b[record+16:], "\xff\xff\xff\xff"); return b },
		"no chunks":         func(b []byte) []byte { b[record+16] = 0; return b },
		"chunk padding":     func(b []byte) []byte { b[record+31] = 1; return b },
		"chunk size":        func(b []byte) []byte { b[chunks]++; return b },
		"chunk size zero":   func(b []byte) []byte { b[chunks+28] += b[chunks]; b[chunks] = 0; return b },
		"chunks exchanged":  func(b []byte) []byte { b[record+12], b[other+12] = b[other+12], b[record+12]; return b },
		"chunk size huge":   func(b []byte) []byte { b[chunks+7] = 0xff; return b },
		"chunks of nothing": func(b []byte) []byte { b[12]++; return append(b, make([]byte, 28)...) },
	} {
		b := change(slices.Clone(good))
		if bytes.Equal(b, good) {
			t.Fatalf("%s: nothing changed", name)
		}
		if _, err := imagemeta.OpenObjects(b); !errors.Is(err, imagemeta.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func reencode(o *imagemeta.Objects) ([]byte, error) {
	var objects []imagemeta.Object
	for id, s := range o.All() {
		objects = append(objects, imagemeta.Object{ID: id, Stored: s})
	}
	var b bytes.Buffer
	err := imagemeta.EncodeObjects(&b, objects)
	return b.Bytes(), err
}

func TestObjectsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfNDistinct(rapid.Int64Range(1, 1<<40), 0, 20, rapid.ID).Draw(t, "sizes")
		var objects []imagemeta.Object
		for i, size := range sizes {
			var chunks []int64
			for left := size; i%2 == 1 && left > 0; {
				c := rapid.Int64Range(1, left).Draw(t, "chunk")
				if len(chunks) == 3 {
					c = left
				}
				chunks, left = append(chunks, c), left-c
			}
			objects = append(objects, row(fmt.Sprint(i), stored(size, chunks...)))
		}
		var b bytes.Buffer
		if err := imagemeta.EncodeObjects(&b, objects); err != nil {
			t.Fatal(err)
		}
		o, err := imagemeta.OpenObjects(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range objects {
			if got, ok := o.Lookup(want.ID); !ok || !cmp.Equal(got, want.Stored) {
				t.Fatal(want.ID, ok, cmp.Diff(want.Stored, got))
			}
		}
		if again, err := reencode(o); err != nil || !bytes.Equal(again, b.Bytes()) {
			t.Fatal("the table does not encode to itself", err)
		}
	})
}

func FuzzObjects(f *testing.F) {
	f.Add(table(f, nil))
	f.Add(table(f, []imagemeta.Object{row("", stored(0)), row("a", stored(5)), row("b", stored(12, 5, 7)), row("c", stored(9, 3, 6))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := imagemeta.OpenObjects(b)
		if err != nil {
			return
		}
		if again, err := reencode(o); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x was read as what encodes to %x, %v", b, again, err)
		}
	})
}

func manyObjects(n int) []imagemeta.Object {
	objects := make([]imagemeta.Object, n)
	for i := range objects {
		objects[i] = row(fmt.Sprint(i), stored(int64(i+1)))
	}
	return objects
}

func TestLookupDoesNotAllocate(t *testing.T) {
	objects := manyObjects(1000)
	b := table(t, objects)
	o, err := imagemeta.OpenObjects(b)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { o.Lookup(objects[17].ID) }); n != 0 {
		t.Errorf("Lookup allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { imagemeta.OpenObjects(b) }); n > 1 { //nolint:errcheck
		t.Errorf("OpenObjects allocates %v times", n)
	}
}

func BenchmarkOpenObjects(b *testing.B) {
	t := table(b, manyObjects(38_000))
	b.SetBytes(int64(len(t)))
	for b.Loop() {
		if _, err := imagemeta.OpenObjects(t); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	objects := manyObjects(38_000)
	o, err := imagemeta.OpenObjects(table(b, objects))
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, ok := o.Lookup(objects[i*7919%len(objects)].ID); !ok {
			b.Fatal("not found")
		}
	}
}
