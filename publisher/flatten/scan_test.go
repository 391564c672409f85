package flatten_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/flatten"
)

// named is a layer with a name and a digest that proves it.
type named struct {
	*blob
	id string
}

func (n named) DiffID() string { return n.id }

func TestDamagedTar(t *testing.T) {
	whole := layer(t, "a = 1", "b = "+strings.Repeat("2", 2000), "c = 3").data
	markless := whole[:len(whole)-1024]
	bad := append([]byte{}, whole...)
	bad[1024] ^= 1 // the second header
	broken := errors.New("wire cut")
	for name, tc := range map[string]struct {
		blob *blob
		kind error
		says string
	}{
		"in a content":  {&blob{data: whole[:1024+512+700]}, flatten.ErrTruncated, "layer 1: tar ends early after 1 entries"},
		"in a header":   {&blob{data: whole[:1024+100]}, flatten.ErrTruncated, "after 1 entries"},
		"at a header":   {&blob{data: whole[:1024]}, flatten.ErrTruncated, "after 1 entries, without the mark"},
		"no end mark":   {&blob{data: markless}, flatten.ErrTruncated, "after 3 entries, without the mark"},
		"empty":         {&blob{}, flatten.ErrFormat, "layer 1: not a tar: it is empty"},
		"garbage":       {&blob{data: []byte(strings.Repeat("no tar at all ", 100))}, flatten.ErrFormat, "layer 1: not a tar"},
		"damaged":       {&blob{data: bad}, flatten.ErrFormat, "damaged after 1 entries"},
		"stream error":  {&blob{data: whole[:1024+512+700], fail: broken}, broken, "layer 1: after 1 entries: wire cut"},
		"error at EOF":  {&blob{data: whole, fail: broken}, broken, "layer 1: wire cut"},
		"wraps EOF":     {&blob{data: whole[:1024], fail: fmt.Errorf("cut: %w", io.EOF)}, io.EOF, "cut"},
		"wraps ErrUnex": {&blob{data: whole[:1024+100], fail: fmt.Errorf("cut: %w", io.ErrUnexpectedEOF)}, io.ErrUnexpectedEOF, "cut"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := run(tc.blob)
			if !errors.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("end mark forgiven where a digest proves", func(t *testing.T) {
		in := sink{}
		tree, err := flatten.Flatten(context.Background(), []named{{&blob{data: markless}, "sha256:12"}}, in, flatten.Options{})
		if err != nil || len(tree.Entries()) != 4 {
			t.Errorf("%v", err)
		}
	})
	t.Run("zeros are no end mark", func(t *testing.T) {
		zeros := layer(t, "z = "+strings.Repeat("\x00", 512)).data
		if _, _, err := run(&blob{data: zeros[:len(zeros)-1024]}); !errors.Is(err, flatten.ErrTruncated) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("layer named by its digest", func(t *testing.T) {
		_, err := flatten.Flatten(context.Background(), []named{{&blob{data: whole[:1024+100]}, "sha256:12"}}, sink{}, flatten.Options{})
		if err == nil || !strings.HasPrefix(err.Error(), "layer sha256:12: ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestLimits(t *testing.T) {
	layers := []*blob{layer(t, "a = 123", "b = 456"), layer(t, "a = 789")}
	for name, tc := range map[string]struct {
		o  flatten.Options
		ok bool
	}{
		"enough":   {flatten.Options{MaxEntries: 3, MaxBytes: 9}, true},
		"entries":  {flatten.Options{MaxEntries: 2}, false},
		"bytes":    {flatten.Options{MaxBytes: 8}, false},
		"defaults": {flatten.Options{}, true},
	} {
		_, err := flatten.Flatten(context.Background(), layers, sink{}, tc.o)
		if tc.ok && err != nil || !tc.ok && !errors.Is(err, flatten.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// lazy is an ingester that does not do its work.
type lazy struct{ err, late error }

func (l lazy) Take(_ context.Context, size int64, r io.Reader, _ func(object.ContentID)) error {
	if l.late != nil {
		_, err := io.CopyN(io.Discard, r, size)
		return err
	}
	return l.err
}

func (l lazy) Settle() error { return l.late }

// mute takes everything and says no name.
type mute struct{ sink }

func (mute) Take(_ context.Context, size int64, r io.Reader, _ func(object.ContentID)) error {
	_, err := io.CopyN(io.Discard, r, size)
	return err
}

// late names contents when it has to, and not before.
type late struct {
	keeper
	pending []func()
	taken   map[string]int
}

func (l *late) Take(ctx context.Context, size int64, r io.Reader, named func(object.ContentID)) error {
	return l.keeper.Take(ctx, size, r, func(id object.ContentID) {
		l.taken[l.sink[id]]++
		l.pending = append(l.pending, func() { named(id) })
	})
}

func (l *late) Settle() error {
	for _, f := range l.pending {
		f()
	}
	l.pending = nil
	return nil
}

// A tree does not depend on when its contents get their names: not those that a
// hard link brings back, nor those of a layer that is remembered.
func TestNamesComeLate(t *testing.T) {
	layers := []proven{
		{layer(t, "a = hidden", "b => a", "c = same", "d = kept", "x = hid", "y => x")},
		{layer(t, "a = 2", "e = same", "d = 3", "x = 4", "y = 5")},
	}
	m := memory{}
	for i, all := range [][]proven{layers, layers, layers, layers[:1], layers[1:]} {
		want := recall(t, memory{}, keeper{sink{}}, all...)
		in := &late{keeper: keeper{sink{}}, taken: map[string]int{}}
		o := flatten.Options{Memory: m}
		if i == 0 {
			o.Memory = nil
		}
		got, err := flatten.Flatten(t.Context(), all, in, o)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "named late", want, got)
		for text, n := range in.taken {
			if n > 1 && text != "same" {
				t.Errorf("%q was taken %d times", text, n)
			}
		}
	}
}

func TestIngesterFails(t *testing.T) {
	full := errors.New("disk full")
	for want, in := range map[string]flatten.Ingester{
		`layer 1: "a": disk full`:        lazy{err: full},
		`did not read the whole content`: lazy{},
		`disk full`:                      lazy{late: full},
		`"a": ingester did not name the`: mute{},
	} {
		_, err := flatten.Flatten(context.Background(), []*blob{layer(t, "a = 1")}, in, flatten.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := flatten.Flatten(ctx, []*blob{layer(t, "a = 1")}, sink{}, flatten.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A layer that reads differently the second time is found out.
type fickle struct {
	blob
	second []byte
}

func (f *fickle) Open(ctx context.Context) (io.ReadCloser, error) {
	if f.opens == 1 {
		f.data = f.second
	}
	return f.blob.Open(ctx)
}

func TestLayerChangesBetweenReadings(t *testing.T) {
	for _, second := range []*blob{layer(t, "a = 12", "b => a"), layer(t, "c => d")} {
		layers := []flatten.Layer{&fickle{*layer(t, "a = 1", "b => a"), second.data}, layer(t, "a = 2")}
		if _, err := flatten.Flatten(context.Background(), layers, sink{}, flatten.Options{}); !errors.Is(err, flatten.ErrConflict) {
			t.Errorf("got %v", err)
		}
	}
}

func TestNotesAreBounded(t *testing.T) {
	var specs []string
	for i := range 1500 {
		specs = append(specs, fmt.Sprintf(".wh..wh.%d = x", i))
	}
	tree, _, err := run(layer(t, specs...))
	if err != nil || len(tree.Notes) != 1000 || tree.MoreNotes != 500 {
		t.Errorf("%d notes and %d more, %v", len(tree.Notes), tree.MoreNotes, err)
	}
}

// What is left out is said, and what is lost without loss is not.
func TestNotes(t *testing.T) {
	tree, _, err := run(pack(t,
		&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "a commit"}},
		&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"mtime": "5"}},
		with(e("acl = 1"), func(h *tar.Header) { h.PAXRecords["SCHILY.acl.access"] = "user::rw-,user:ann:r--" }),
		e("plain = 1"),
	))
	if err != nil || len(tree.Notes) != 2 || !strings.Contains(tree.Notes[0].Text, "global") || tree.Notes[1].Path != "acl" {
		t.Errorf("%v, notes %v", err, tree.Notes)
	}
	if len(tree.Entries()) != 3 {
		t.Errorf("entries %v", tree.Entries())
	}
}

func FuzzFlatten(f *testing.F) {
	f.Add(layer(f, "a/", "a/b = 1", "c => a/b", "l -> a").data, layer(f, "l/x = 2", "a/.wh.b", "d => c").data)
	f.Add(layer(f, "a -> b", "b -> a").data, layer(f, "a/b = 1").data)
	f.Add(layer(f, "d/", "d/f = 1").data, layer(f, "d/.wh..wh..opq", "d/.wh.f").data)
	f.Add(pack(f, e("\xff = 2"), e("x")).data, []byte{})
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		in := sink{}
		o := flatten.Options{MaxEntries: 1000, MaxBytes: 1 << 20}
		tree, err := flatten.Flatten(context.Background(), []*blob{{data: lower}, {data: upper}}, in, o)
		if err != nil {
			return
		}
		checkTree(t, tree, in)
	})
}

// checkTree proves what Entries promises.
func checkTree(t *testing.T, tree *flatten.Tree, in sink) {
	t.Helper()
	dirs := map[string]bool{}
	links := map[uint32]int{}
	last := ""
	for i, x := range tree.Entries() {
		parent := ""
		if at := strings.LastIndexByte(x.Path, '/'); at >= 0 {
			parent = x.Path[:at]
		}
		switch {
		case i == 0:
			if x.Path != "" || x.Mode&0o170000 != 0o040000 {
				t.Fatalf("first entry is %q, mode %o", x.Path, x.Mode)
			}
		case strings.Compare(sortKey(last), sortKey(x.Path)) >= 0:
			t.Fatalf("%q after %q", x.Path, last)
		case !dirs[parent]:
			t.Fatalf("%q has no parent", x.Path)
		}
		for c := range strings.SplitSeq(x.Path, "/") {
			if i > 0 && (c == "" || c == "." || c == ".." || len(c) > 255) {
				t.Fatalf("component %q in %q", c, x.Path)
			}
		}
		dirs[x.Path] = x.Mode&0o170000 == 0o040000
		if x.Link != 0 {
			if links[x.Link] == 0 && int(x.Link) != len(links)+1 {
				t.Fatalf("%q begins group %d after %d groups", x.Path, x.Link, len(links))
			}
			links[x.Link]++
		}
		text, ingested := in[x.Content]
		if x.Mode&0o170000 == 0o100000 && (!ingested || int64(len(text)) != x.Size) {
			t.Fatalf("%q: %d bytes, content %d bytes, ingested %v", x.Path, x.Size, len(text), ingested)
		}
		last = x.Path
	}
	for g, n := range links {
		if n < 2 {
			t.Fatalf("group %d of %d", g, n)
		}
	}
}

// sortKey makes bytewise order of keys the canonical order of paths.
func sortKey(p string) string { return strings.ReplaceAll(p, "/", "\x00") }

// discard takes contents without keeping them.
type discard struct{}

func (discard) Take(_ context.Context, size int64, r io.Reader, named func(object.ContentID)) error {
	_, err := io.CopyN(io.Discard, r, size)
	named(object.ContentID{1})
	return err
}

func (discard) Settle() error { return nil }

func BenchmarkFlatten200k(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var specs []string
	for i := range 200_000 {
		if i%10 == 0 {
			specs = append(specs, fmt.Sprintf("usr/share/d%d/", i/10))
			continue
		}
		specs = append(specs, fmt.Sprintf("usr/share/d%d/file-%d = %s", i/10, rng.Uint32(), "text"))
	}
	l := layer(b, specs...)
	b.SetBytes(int64(len(l.data)))
	b.ReportAllocs()
	for b.Loop() {
		tree, err := flatten.Flatten(context.Background(), []*blob{l}, discard{}, flatten.Options{})
		if err != nil || tree.Totals.Entries != 200_003 {
			b.Fatal(err, tree.Totals)
		}
	}
}
