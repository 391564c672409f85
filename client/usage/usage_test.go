package usage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/usage"
	"github.com/rootstock-cf/rootstock/object"
)

// table is a sorted list of contents.
type table []object.ContentID

func (t table) Len() int                  { return len(t) }
func (t table) At(i int) object.ContentID { return t[i] }

func (t table) Index(id object.ContentID) (int, bool) {
	return slices.BinarySearchFunc(t, id, func(a, b object.ContentID) int { return bytes.Compare(a[:], b[:]) })
}

func tableOf(ids ...object.ContentID) table {
	slices.SortFunc(ids, func(a, b object.ContentID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(table(ids))
}

func text(n int) []byte { return bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 50+n) }

func content(n int) object.ContentID { return sha256.Sum256(text(n)) }

func open(t testing.TB, dir string) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, cache.Options{SyncInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func store(t testing.TB, c *cache.Cache, n int, k cache.Key) {
	t.Helper()
	f, err := c.Store(context.Background(), k, int64(len(text(n))), func(_ context.Context, w cache.Writer) error {
		_, err := w.Write(text(n))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// object key of content n; it is another name of it.
func alias(n int) cache.Key {
	return cache.Object(object.Hash{Algorithm: object.SHA1, Digest: [object.DigestSize]byte{byte(n), 1}}, object.Zlib)
}

type model struct {
	present map[int]bool
	aliased map[int]int // content by the number of its other name
	pins    map[cache.Key]int
	tables  map[*usage.Counted]held
}

type held struct {
	tree object.ContentID
	has  map[int]bool
	// hasName are numbers of other names that it has.
	hasName map[int]bool
}

// pinned asks for all names of a content.
func (m *model) pinned(n int) bool {
	if m.pins[cache.Content(content(n))] > 0 {
		return true
	}
	for name, of := range m.aliased {
		if of == n && m.pins[alias(name)] > 0 {
			return true
		}
	}
	return false
}

// gone forgets a content with its names.
func (m *model) gone(n int) {
	delete(m.present, n)
	maps.DeleteFunc(m.aliased, func(_, of int) bool { return of == n })
}

// sums counts everything anew.
func (m *model) sums(n int) (total usage.Totals, trees map[object.ContentID]usage.Tree) {
	trees = map[object.ContentID]usage.Tree{}
	for _, h := range m.tables {
		trees[h.tree] = usage.Tree{}
	}
	for i := range n {
		if !m.present[i] {
			continue
		}
		size := int64(len(text(i)))
		pinned := m.pinned(i)
		in := map[object.ContentID]bool{}
		for _, h := range m.tables {
			if h.has[i] {
				in[h.tree] = true
			}
			for name, of := range m.aliased {
				if of == i && h.hasName[name] {
					in[h.tree] = true
				}
			}
		}
		total.Bytes += size
		switch {
		case len(in) == 1:
			total.Exclusive += size
		case len(in) > 1:
			total.Shared += size
		case pinned:
			total.Pinned += size
		default:
			total.Reclaimable += size
		}
		for id := range in {
			t := trees[id]
			if len(in) == 1 {
				t.Exclusive += size
			} else {
				t.Shared += size
			}
			if pinned {
				t.Pinned += size
			}
			trees[id] = t
		}
	}
	return total, trees
}

// Whatever comes, goes, is pinned or named, the sums are those of counting anew.
func TestLedgerIsExact(t *testing.T) {
	const contents, trees = 5, 4
	rapid.Check(t, func(t *rapid.T) {
		dir := rapidDir(t)
		c, err := cache.Open(dir, cache.Options{SyncInterval: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		m := &model{present: map[int]bool{}, aliased: map[int]int{}, pins: map[cache.Key]int{}, tables: map[*usage.Counted]held{}}
		put := func(n int, k cache.Key) {
			f, err := c.Store(context.Background(), k, -1, func(_ context.Context, w cache.Writer) error {
				_, err := w.Write(text(n))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			m.present[n] = true
		}
		for n := range rapid.IntRange(0, 5).Draw(t, "before") {
			put(n, cache.Content(content(n)))
		}
		l := usage.New(c)
		defer l.Close()
		one := rapid.IntRange(0, contents-1)
		name := rapid.SampledFrom([]func(int) cache.Key{alias, func(n int) cache.Key { return cache.Content(content(n)) }})
		var order []*usage.Counted
		t.Repeat(map[string]func(*rapid.T){
			"store": func(t *rapid.T) { n := one.Draw(t, "n"); put(n, cache.Content(content(n))) },
			"store as object": func(t *rapid.T) {
				n := one.Draw(t, "n")
				if _, taken := m.aliased[n]; !taken {
					put(n, alias(n))
					m.aliased[n] = n
				}
			},
			"alias": func(t *rapid.T) {
				n, name := one.Draw(t, "n"), one.Draw(t, "name")
				ok, err := c.Alias(cache.Content(content(n)), alias(name))
				if err != nil || ok != m.present[n] {
					t.Fatalf("%v, %v", ok, err)
				}
				if ok { // it may have been another's
					m.aliased[name] = n
				}
			},
			"pin": func(t *rapid.T) {
				k := name.Draw(t, "k")(one.Draw(t, "n"))
				c.Pin(k)
				m.pins[k]++
			},
			"unpin": func(t *rapid.T) {
				k := name.Draw(t, "k")(one.Draw(t, "n"))
				if m.pins[k] > 0 {
					c.Unpin(k)
					m.pins[k]--
				}
			},
			"remove": func(t *rapid.T) {
				n := one.Draw(t, "n")
				c.Remove(cache.Content(content(n)))
				m.gone(n)
			},
			"evict": func(t *rapid.T) {
				c.Evict(int64(rapid.IntRange(0, 500).Draw(t, "bytes")))
				for n := range m.present {
					if !c.Has(cache.Content(content(n))) {
						m.gone(n)
					}
				}
			},
			"use": func(t *rapid.T) {
				h := held{tree: object.ContentID{byte(rapid.IntRange(1, trees).Draw(t, "tree"))}, has: map[int]bool{}, hasName: map[int]bool{}}
				stored := rapid.Bool().Draw(t, "stored")
				var ids []object.ContentID
				for range rapid.IntRange(0, 20).Draw(t, "size") {
					n := one.Draw(t, "n")
					if stored {
						h.hasName[n] = true
						ids = append(ids, alias(n).ID())
						continue
					}
					h.has[n] = true
					ids = append(ids, content(n))
				}
				n := l.Add(h.tree, tableOf(ids...))
				m.tables[n], order = h, append(order, n)
			},
			"drop": func(t *rapid.T) {
				if len(order) > 0 {
					l.Remove(order[0], func() {})
					delete(m.tables, order[0])
					order = order[1:]
				}
			},
			"": func(t *rapid.T) {
				got, byTree, err := l.Usage(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				want, wantTrees := m.sums(contents)
				if got != want || !maps.Equal(byTree, wantTrees) {
					t.Fatalf("got  %+v\n     %+v\nwant %+v\n     %+v", got, byTree, want, wantTrees)
				}
				var pinned int64
				for n := range m.present {
					if m.pinned(n) {
						pinned += int64(len(text(n)))
					}
				}
				if s := c.Stats(); s.Pinned != pinned || s.Bytes != want.Bytes {
					t.Fatalf("the cache says %d pinned of %d, not %d of %d", s.Pinned, s.Bytes, pinned, want.Bytes)
				}
			},
		})
	})
}

// Contents that come and go while tables are being counted count once.
func TestLedgerWhileCounting(t *testing.T) {
	const contents = 2000
	c := open(t, t.TempDir())
	defer c.Close()
	l := usage.New(c)
	defer l.Close()
	var ids []object.ContentID
	for n := range contents {
		ids = append(ids, content(n))
	}
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			for n := g; n < contents; n += 2 {
				store(t, c, n, cache.Content(content(n)))
				if n%3 == 0 {
					c.Remove(cache.Content(content(n)))
				}
			}
		})
	}
	a, b := object.ContentID{1}, object.ContentID{2}
	l.Add(a, tableOf(slices.Clone(ids)...))
	for range 5 {
		l.Remove(l.Add(b, tableOf(slices.Clone(ids)...)), func() {})
	}
	l.Add(b, tableOf(slices.Clone(ids[:contents/2])...))
	wg.Wait()
	got, trees, err := l.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want usage.Totals
	for n := range contents {
		if n%3 == 0 {
			continue
		}
		if n < contents/2 {
			want.Shared += int64(len(text(n)))
		} else {
			want.Exclusive += int64(len(text(n)))
		}
	}
	want.Bytes = want.Shared + want.Exclusive
	if got != want || trees[a] != (usage.Tree{Exclusive: want.Exclusive, Shared: want.Shared}) || trees[b] != (usage.Tree{Shared: want.Shared}) {
		t.Errorf("got %+v, %+v, want %+v", got, trees, want)
	}
}

// Asking costs the same whatever is in the cache.
func BenchmarkUsage(b *testing.B) {
	for _, contents := range []int{100, 10_000} {
		b.Run(fmt.Sprint(contents), func(b *testing.B) {
			c := open(b, b.TempDir())
			defer c.Close()
			l := usage.New(c)
			defer l.Close()
			var ids []object.ContentID
			for n := range contents {
				store(b, c, n, cache.Content(content(n)))
				ids = append(ids, content(n))
			}
			for n := range 10 {
				l.Add(object.ContentID{byte(n)}, tableOf(slices.Clone(ids)...))
			}
			b.ResetTimer()
			for b.Loop() {
				if _, _, err := l.Usage(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// rapidDir is a directory that goes with one run of a property.
func rapidDir(t *rapid.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "rootstock-usage-") // a hundred caches do not share a disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
