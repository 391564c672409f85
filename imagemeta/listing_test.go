package imagemeta_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

var limits = imagemeta.Limits{Entries: 100_000, Bytes: 64 << 20}

func encode(t testing.TB, entries []imagemeta.Entry) ([]byte, imagemeta.TreeID) {
	t.Helper()
	var b bytes.Buffer
	id, err := imagemeta.Encode(&b, entries)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), id
}

func TestListingRoundTrip(t *testing.T) {
	for name, entries := range map[string][]imagemeta.Entry{
		"root": {dir("", 0o755)}, "bare root": {dir("", 0)}, "sample": sample(), "big": bigTree(5000),
	} {
		b, id := encode(t, entries)
		if id != object.ContentOf(b) {
			t.Errorf("%s: tree id is not the SHA-256 of the listing", name)
		}
		got, gotID, err := imagemeta.Decode(iotest.OneByteReader(bytes.NewReader(b)), limits)
		if err != nil || gotID != id {
			t.Fatalf("%s: %s, %v", name, gotID, err)
		}
		if d := cmp.Diff(entries, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if err := imagemeta.Verify(bytes.NewReader(b), id, limits); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := imagemeta.Verify(bytes.NewReader(b), imagemeta.TreeID{1}, limits); !errors.Is(err, imagemeta.ErrMismatch) {
			t.Errorf("%s against another id: %v", name, err)
		}
		again := append(slices.Clip(b), 0)
		if err := imagemeta.Verify(bytes.NewReader(again), object.ContentOf(again), limits); !errors.Is(err, imagemeta.ErrInvalid) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
}

// says is a reader that says how much is left, rightly or not.
type says struct {
	io.Reader
	n int
}

func (s says) Len() int { return s.n }

func TestRoomForEntries(t *testing.T) {
	entries := bigTree(500)
	b, _ := encode(t, entries)
	for _, n := range []int{-1, 0, 1, len(b), 1 << 60} {
		got, _, err := imagemeta.Decode(says{bytes.NewReader(b), n}, imagemeta.DefaultLimits)
		if err != nil {
			t.Fatalf("%d bytes said: %v", n, err)
		}
		if d := cmp.Diff(entries, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%d bytes said: %s", n, d)
		}
		if cap(got) > 1<<18 {
			t.Errorf("%d bytes said: room for %d entries", n, cap(got))
		}
		if n == len(b) && cap(got) > len(b)/40+1 {
			t.Errorf("room was made for %d of %d entries, and again", cap(got), len(entries))
		}
	}
}

func TestListingProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := tree(t)
		var b bytes.Buffer
		id, err := imagemeta.Encode(&b, entries)
		if err != nil {
			t.Fatal(err)
		}
		got, gotID, err := imagemeta.Decode(bytes.NewReader(b.Bytes()), limits)
		if err != nil || gotID != id {
			t.Fatal(gotID, err)
		}
		if d := cmp.Diff(entries, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
		cut := rapid.IntRange(0, b.Len()-1).Draw(t, "cut")
		if _, _, err := imagemeta.Decode(bytes.NewReader(b.Bytes()[:cut]), limits); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, imagemeta.ErrInvalid) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	})
}

func TestEncodeRefuses(t *testing.T) {
	with := func(change func(*imagemeta.Entry)) []imagemeta.Entry {
		e := file("x", "content")
		change(&e)
		return []imagemeta.Entry{dir("", 0o755), e}
	}
	linked := func(change func(*imagemeta.Entry)) []imagemeta.Entry {
		a, b := file("x", "c"), file("y", "c")
		a.Link, b.Link = 1, 1
		change(&b)
		return []imagemeta.Entry{dir("", 0o755), a, b}
	}
	root := dir("", 0o755)
	for name, entries := range map[string][]imagemeta.Entry{
		"nothing":           nil,
		"no root":           {dir("a", 0o755)},
		"root is a file":    {file("", "x")},
		"two roots":         {root, root},
		"unsorted":          {root, file("b", ""), file("a", "")},
		"twice":             {root, file("a", ""), file("a", "")},
		"orphan":            {root, file("a/b", "")},
		"below a file":      {root, file("a", ""), file("a/b", "")},
		"left directory":    {root, dir("a", 0), file("b", ""), file("a/b", "")},
		"slash before dash": {root, file("a-", ""), dir("a", 0)},
		"absolute":          {root, file("/a", "")},
		"trailing slash":    {root, dir("a/", 0)},
		"dot":               {root, dir(".", 0)},
		"dot dot":           {root, dir("..", 0)},
		"NUL":               {root, dir("a\x00", 0)},
		"long name":         {root, dir(strings.Repeat("n", 256), 0)},
		"mode":              with(func(e *imagemeta.Entry) { e.Mode |= 1 << 16 }),
		"no type":           with(func(e *imagemeta.Entry) { e.Mode = 0o644 }),
		"odd type":          with(func(e *imagemeta.Entry) { e.Mode = 0o130644 }),
		"nsec":              with(func(e *imagemeta.Entry) { e.Nsec = 1e9 }),
		"negative size":     with(func(e *imagemeta.Entry) { e.Size = -1 }),
		"no content":        with(func(e *imagemeta.Entry) { e.Content = object.ContentID{} }),
		"empty with bytes":  with(func(e *imagemeta.Entry) { e.Content = object.EmptyContent }),
		"bytes of size 0":   with(func(e *imagemeta.Entry) { e.Size = 0 }),
		"target of a file":  with(func(e *imagemeta.Entry) { e.Target = "x" }),
		"device of a file":  with(func(e *imagemeta.Entry) { e.Minor = 1 }),
		"content of a dir":  with(func(e *imagemeta.Entry) { e.Mode = 0o040755 }),
		"no target":         {root, {Path: "l", Mode: 0o120777}},
		"long target":       {root, {Path: "l", Mode: 0o120777, Target: strings.Repeat("t", 4096)}},
		"major":             {root, {Path: "d", Mode: 0o020777, Major: 4096}},
		"minor":             {root, {Path: "d", Mode: 0o060777, Minor: 1 << 20}},
		"xattr order":       with(func(e *imagemeta.Entry) { e.XAttrs = []imagemeta.XAttr{{Name: "b"}, {Name: "a"}} }),
		"xattr twice":       with(func(e *imagemeta.Entry) { e.XAttrs = []imagemeta.XAttr{{Name: "a"}, {Name: "a"}} }),
		"xattr name":        with(func(e *imagemeta.Entry) { e.XAttrs = []imagemeta.XAttr{{}} }),
		"xattr long name":   with(func(e *imagemeta.Entry) { e.XAttrs = []imagemeta.XAttr{{Name: strings.Repeat("x", 256)}} }),
		"xattr value":       with(func(e *imagemeta.Entry) { e.XAttrs = []imagemeta.XAttr{{Name: "a", Value: make([]byte, 65536)}} }),
		"group of one":      with(func(e *imagemeta.Entry) { e.Link = 1 }),
		"group number":      linked(func(e *imagemeta.Entry) { e.Link = 3 }),
		"linked directory":  {root, {Path: "a", Mode: 0o040755, Link: 1}, {Path: "b", Mode: 0o040755, Link: 1}},
		"link differs uid":  linked(func(e *imagemeta.Entry) { e.UID++ }),
		"link differs mode": linked(func(e *imagemeta.Entry) { e.Mode ^= 1 }),
		"link differs time": linked(func(e *imagemeta.Entry) { e.MTime++ }),
		"link differs data": linked(func(e *imagemeta.Entry) { e.Content[0]++ }),
		"link differs attr": linked(func(e *imagemeta.Entry) { e.XAttrs = []imagemeta.XAttr{{Name: "a"}} }),
	} {
		if _, err := imagemeta.Encode(io.Discard, entries); !errors.Is(err, imagemeta.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	deep := []imagemeta.Entry{root}
	for path := "d"; len(path) <= imagemeta.MaxPath+2; path += "/d" {
		deep = append(deep, dir(path, 0o755))
	}
	if _, err := imagemeta.Encode(io.Discard, deep); !errors.Is(err, imagemeta.ErrInvalid) {
		t.Errorf("path of more than %d bytes: %v", imagemeta.MaxPath, err)
	}
}

// Bytes a Writer would not have written, each for one reason.
func TestDecodeRefuses(t *testing.T) {
	const magic, root = "RSTREE\x00\x01", "\x73"                     // permissions 0 like the record before
	regular := func(head, path string) string { return head + path } // for reading the table
	body := "\x05" + strings.Repeat("c", 32)                         // 5 bytes of some content
	for name, b := range map[string]string{
		"empty":              "",
		"magic":              "RSTREE\x00\x02" + root + "\x00",
		"no root":            magic + "\x00",
		"root is a file":     magic + "\x75\x00\x00",
		"flags at the end":   magic + root + "\x10",
		"data at the end":    magic + root + "\x00\x00",
		"no end":             magic + root,
		"up beyond the root": magic + root + regular("\x75", "\x01\x01a") + "\x00\x00",
		"below a file":       magic + root + "\x75\x00\x01a\x00" + "\x75\x00\x01b\x00\x00",
		"unsorted":           magic + root + "\x75\x00\x01b\x00" + "\x75\x01\x01a\x00\x00",
		"same name":          magic + root + "\x75\x00\x01a\x00" + "\x75\x01\x01a\x00\x00",
		"slash":              magic + root + "\x75\x00\x03a/b\x00\x00",
		"dot dot":            magic + root + "\x75\x00\x02..\x00\x00",
		"no name":            magic + root + "\x75\x00\x00\x00\x00",
		"long varint":        magic + root + "\x75\x00\x81\x00a\x00\x00",
		"huge varint":        magic + root + "\x75\x00\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00",
		"negative size":      magic + root + "\x75\x00\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + body[1:] + "\x00",
		"perm again":         magic + root + "\x35\x00\x01a\x00" + body + "\x00",
		"perm too large":     magic + root + "\x35\x00\x01a\x80\x20" + body + "\x00",
		"owner again":        magic + root + "\x65\x00\x01a\x00\x00" + body + "\x00",
		"time again":         magic + root + "\x55\x00\x01a\x00\x00" + body + "\x00",
		"nanoseconds":        magic + root + "\x55\x00\x01a\x00\x80\x94\xeb\xdc\x03" + body + "\x00",
		"xattrs, none":       magic + root + "\x7d\x00\x01a" + body + "\x00\x00",
		"xattrs unsorted":    magic + root + "\x7d\x00\x01a" + body + "\x02\x01b\x00\x01a\x00\x00",
		"empty content":      magic + root + "\x75\x00\x01a\x05" + string(object.EmptyContent[:]) + "\x00",
		"zero content":       magic + root + "\x75\x00\x01a\x05" + strings.Repeat("\x00", 32) + "\x00",
		"empty target":       magic + root + "\x76\x00\x01a\x00\x00",
		"NUL in target":      magic + root + "\x76\x00\x01a\x01\x00\x00",
		"major":              magic + root + "\x72\x00\x01a\x80\x20\x00\x00",
		"group of one":       magic + root + "\xf5\x00\x01a\x00" + body + "\x00",
		"group unknown":      magic + root + "\x85\x00\x01a\x01\x00",
		"follower's flags":   magic + root + "\xf5\x00\x01a\x00" + body + "\x95\x01\x01b\x01\x00",
		"follower's type":    magic + root + "\xf5\x00\x01a\x00" + body + "\x86\x01\x01b\x01\x00",
		"linked directories": magic + root + "\xf3\x00\x01a\x00\x83\x01\x01b\x01\x00",
	} {
		if entries, _, err := imagemeta.Decode(strings.NewReader(b), limits); !errors.Is(err, imagemeta.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
	}
	// The table's building blocks are right where nothing is wrong.
	good := magic + root + "\xf5\x00\x01a\x00" + body + "\x85\x01\x01b\x01\x00"
	if _, _, err := imagemeta.Decode(strings.NewReader(good), limits); err != nil {
		t.Error(err)
	}
}

func TestDecodeLimits(t *testing.T) {
	entries := bigTree(100)
	b, _ := encode(t, entries)
	paths := 0
	for _, e := range entries {
		paths += len(e.Path)
	}
	for _, tc := range []struct {
		name  string
		limit imagemeta.Limits
		ok    bool
	}{
		{"exact", imagemeta.Limits{Entries: 100, Bytes: int64(len(b))}, true},
		{"entries", imagemeta.Limits{Entries: 99, Bytes: int64(len(b))}, false},
		{"bytes", imagemeta.Limits{Entries: 100, Bytes: int64(len(b) - 1)}, false},
	} {
		_, _, err := imagemeta.Decode(bytes.NewReader(b), tc.limit)
		if (err == nil) != tc.ok || !tc.ok && !errors.Is(err, imagemeta.ErrTooLarge) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	// A deep directory makes long paths out of short records.
	bomb := []byte("RSTREE\x00\x01\x73")
	for range 2000 {
		bomb = append(bomb, "\x73\x00\x01d"...)
	}
	for i := range 10_000 {
		head := "\x75\x01\x04"
		if i == 0 {
			head = "\x75\x00\x04"
		}
		bomb = append(append(bomb, head...), fmt.Sprintf("%04d\x00", i)...)
	}
	bomb = append(bomb, 0)
	if _, _, err := imagemeta.Decode(bytes.NewReader(bomb), imagemeta.Limits{Entries: 1 << 20, Bytes: 1 << 20}); !errors.Is(err, imagemeta.ErrTooLarge) {
		t.Errorf("%d bytes for %d bytes of paths: %v", len(bomb), 10_000*4000, err)
	}
}

func TestReaderKeepsItsError(t *testing.T) {
	broken := errors.New("broken")
	b, _ := encode(t, sample())
	r := imagemeta.NewReader(io.MultiReader(bytes.NewReader(b[:40]), iotest.ErrReader(broken)), limits)
	var first error
	for first == nil {
		_, first = r.Next()
	}
	if !errors.Is(first, broken) || errors.Is(first, imagemeta.ErrInvalid) {
		t.Errorf("reader's own error became %v", first)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("second call: %v", err)
	}
	w := imagemeta.NewWriter(io.Discard)
	bad := file("a", "")
	if err := w.Write(&bad); !errors.Is(err, imagemeta.ErrInvalid) {
		t.Fatal(err)
	}
	root := dir("", 0)
	if err := w.Write(&root); !errors.Is(err, imagemeta.ErrInvalid) {
		t.Errorf("a writer went on after an error: %v", err)
	}
}

func FuzzListing(f *testing.F) {
	for _, entries := range [][]imagemeta.Entry{{dir("", 0)}, sample(), bigTree(30)} {
		b, _ := encode(f, entries)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, id, err := imagemeta.Decode(bytes.NewReader(b), imagemeta.Limits{Entries: 10_000, Bytes: 1 << 20})
		if err != nil {
			return
		}
		if again, againID := encode(t, entries); !bytes.Equal(b, again) || id != againID {
			t.Fatalf("%x was read as what encodes to %x", b, again)
		}
	})
}

// The worked example of docs/design/tree.md.
func ExampleEncode() {
	hello := imagemeta.Entry{
		Path: "bin/hello", Mode: 0o100755, MTime: 1700000000, Size: 6, Link: 1,
		Content: object.ContentOf([]byte("hello\n")),
	}
	again := hello
	again.Path = "hi"
	var b bytes.Buffer
	id, err := imagemeta.Encode(&b, []imagemeta.Entry{
		{Path: "", Mode: 0o040755},
		{Path: "bin", Mode: 0o040755, MTime: 1700000000},
		hello,
		again,
		{Path: "sh", Mode: 0o120777, MTime: 1700000000, Target: "bin/hello"},
	})
	fmt.Print(hex.Dump(b.Bytes()))
	fmt.Println(id, err)
	// Output:
	// 00000000  52 53 54 52 45 45 00 01  33 ed 03 53 00 03 62 69  |RSTREE..3..S..bi|
	// 00000010  6e 80 c4 9f d5 0c 00 b5  00 05 68 65 6c 6c 6f 00  |n.........hello.|
	// 00000020  ed 03 06 58 91 b5 b5 22  d5 df 08 6d 0f f0 b1 10  |...X..."...m....|
	// 00000030  fb d9 d2 1b b4 fc 71 63  af 34 d0 82 86 a2 e8 46  |......qc.4.....F|
	// 00000040  f6 be 03 85 02 02 68 69  01 36 01 02 73 68 ff 03  |......hi.6..sh..|
	// 00000050  09 62 69 6e 2f 68 65 6c  6c 6f 00                 |.bin/hello.|
	// fe69b6b76c7233ab026515dcad59bda2479da34229426a0dd33da5d587c3271f <nil>
}

func BenchmarkEncode(b *testing.B) {
	entries := bigTree(44_000)
	var n countingWriter
	b.ReportAllocs()
	for b.Loop() {
		n = 0
		if _, err := imagemeta.Encode(&n, entries); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/float64(len(entries)), "B/entry")
}

func BenchmarkDecode(b *testing.B) {
	listing, _ := encode(b, bigTree(44_000))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := imagemeta.Decode(bytes.NewReader(listing), limits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	listing, id := encode(b, bigTree(44_000))
	b.ReportAllocs()
	for b.Loop() {
		if err := imagemeta.Verify(bytes.NewReader(listing), id, limits); err != nil {
			b.Fatal(err)
		}
	}
}

type countingWriter int

func (c *countingWriter) Write(b []byte) (int, error) {
	*c += countingWriter(len(b))
	return len(b), nil
}
