package flatten_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/flatten"
)

// proven is a blob whose diff id is known.
type proven struct{ *blob }

func (n proven) DiffID() string { return object.ContentOf(n.data).String() }

// memory is a flatten.Memory.
type memory map[string][]byte

func (m memory) Recall(id string) []byte         { return m[id] }
func (m memory) Remember(id string, said []byte) { m[id] = slices.Clone(said) }

// keeper is a sink that adopts what it has.
type keeper struct{ sink }

func (k keeper) AdoptAll(_ context.Context, ids []object.ContentID) ([]bool, error) {
	there := make([]bool, len(ids))
	for i, id := range ids {
		_, there[i] = k.sink[id]
	}
	return there, nil
}

func recall(t testing.TB, m memory, in keeper, layers ...proven) *flatten.Tree {
	t.Helper()
	tree, err := flatten.Flatten(t.Context(), layers, in, flatten.Options{Memory: m})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func opens(layers []proven) (n int) {
	for _, l := range layers {
		n += l.opens
	}
	return n
}

func same(t testing.TB, what string, want, got *flatten.Tree) {
	t.Helper()
	if diff := cmp.Diff(want.Entries(), got.Entries()); diff != "" {
		t.Fatalf("%s: another tree:\n%s", what, diff)
	}
	if diff := cmp.Diff(want.Notes, got.Notes); diff != "" || want.MoreNotes != got.MoreNotes {
		t.Fatalf("%s: other notes:\n%s", what, diff)
	}
	if want.Totals.Entries != got.Totals.Entries || want.Totals.Bytes != got.Totals.Bytes || want.Totals.Read != got.Totals.Read {
		t.Fatalf("%s: totals %+v, want %+v", what, got.Totals, want.Totals)
	}
}

// A stack of layers means the same whether it is read, remembered, partly
// remembered, or remembered while its contents are gone.
func TestRecallMakesTheSameTree(t *testing.T) {
	names := []string{"a", "b", "d/a", "d/b", "d/e/a", "l/a"}
	spec := rapid.Custom(func(t *rapid.T) string {
		name := rapid.SampledFrom(names).Draw(t, "name")
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0:
			return "w/.wh." + strings.ReplaceAll(name, "/", "")
		case 1:
			return ".wh.a"
		case 2:
			return "d/.wh..wh..opq"
		case 3:
			return "l -> d"
		case 4:
			return "d/e/"
		}
		return name + " = " + rapid.SampledFrom([]string{"1", "2", "", "three"}).Draw(t, "text")
	})
	rapid.Check(t, func(r *rapid.T) {
		var layers, upper []proven
		for i := range rapid.IntRange(1, 4).Draw(r, "layers") {
			hs := rapid.SliceOfN(spec, 1, 6).Draw(r, "entries")
			l := proven{layer(t, append(hs, fmt.Sprintf("x%d = %d", i, i))...)}
			layers = append(layers, l)
			if rapid.Bool().Draw(r, "in the other image") {
				upper = append(upper, l)
			}
		}
		plain, err := flatten.Flatten(t.Context(), layers, sink{}, flatten.Options{})
		if err != nil {
			return // it is about those that can be published
		}
		m, in := memory{}, keeper{sink{}}
		same(r2t{t, r}, "first", plain, recall(t, m, in, layers...))
		before := opens(layers)
		same(r2t{t, r}, "again", plain, recall(t, m, in, layers...))
		if opens(layers) != before {
			r.Fatalf("remembered layers were read")
		}
		if other, err := flatten.Flatten(t.Context(), upper, sink{}, flatten.Options{}); err == nil {
			before = opens(layers)
			same(r2t{t, r}, "some of the layers", other, recall(t, m, in, upper...))
			if opens(layers) != before {
				r.Fatalf("layers shared with another image were read")
			}
		}
		same(r2t{t, r}, "contents gone", plain, recall(t, m, keeper{sink{}}, layers...))
	})
}

// r2t reports to rapid what is asked of t.
type r2t struct {
	testing.TB
	r *rapid.T
}

func (x r2t) Fatalf(format string, args ...any) { x.r.Fatalf(format, args...) }
func (x r2t) Helper()                           {}

// A content that was hidden and is too large to be remembered costs one more
// reading of its layer, and only one.
func TestRecallOfWhatWasHidden(t *testing.T) {
	large := strings.Repeat("large ", 3<<20)
	base := proven{layer(t, "a = "+large, "b = kept")}
	m, in := memory{}, keeper{sink{}}
	recall(t, m, in, base, proven{layer(t, "a = hides it")})
	for try, want := range []int{2, 2} {
		tree := recall(t, m, in, base)
		if got := show(tree, in.sink); got != "/\na = "+large+"\nb = kept" {
			t.Errorf("try %d: another tree", try)
		}
		if base.opens != want {
			t.Errorf("try %d: the layer was read %d times, want %d", try, base.opens, want)
		}
	}
	if total := recall(t, m, in, base).Totals; total.Recalled != int64(len(large)+4) || total.Ingested != 0 {
		t.Errorf("totals %+v", total)
	}
}

// What comes back cut short is read anew; what comes back otherwise damaged is
// the Memory's to refuse, and must not do harm.
func TestDamagedMemory(t *testing.T) {
	l := proven{layer(t, "d/", "d/a = 1", "s -> a", "b => d/a", "e")}
	m, in := memory{}, keeper{sink{}}
	want := recall(t, m, in, l)
	said := m[l.DiffID()]
	for n := range said {
		m[l.DiffID()] = said[:n]
		before := l.opens
		same(t, fmt.Sprintf("the first %d bytes", n), want, recall(t, m, in, l))
		if l.opens != before+1 {
			t.Fatalf("the first %d bytes of %d were believed", n, len(said))
		}
	}
	for n := range said {
		bad := slices.Clone(said)
		bad[n] ^= 0xff
		m[l.DiffID()] = bad
		flatten.Flatten(t.Context(), []proven{l}, in, flatten.Options{Memory: m}) //nolint:errcheck // it may fail, not panic
	}
}

// Limits count what is remembered too.
func TestLimitsOfRecall(t *testing.T) {
	l := proven{layer(t, "a = 12345", "b = 1")}
	m, in := memory{}, keeper{sink{}}
	recall(t, m, in, l)
	for _, o := range []flatten.Options{{MaxEntries: 1, Memory: m}, {MaxBytes: 5, Memory: m}} {
		if _, err := flatten.Flatten(t.Context(), []proven{l}, in, o); !errors.Is(err, flatten.ErrLimit) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
