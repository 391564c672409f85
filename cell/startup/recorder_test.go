package startup_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell/startup"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/object"
)

func id(text string) object.ContentID { return object.ContentOf([]byte(text)) }

// clock moves only when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// naming says that a tree has the contents whose text begins with its letter.
func naming(trees map[object.ContentID][]imagemeta.TreeID) func(object.ContentID) []imagemeta.TreeID {
	return func(id object.ContentID) []imagemeta.TreeID { return trees[id] }
}

func documents(t *testing.T, r *startup.Recorder) (all []profile.Document) {
	t.Helper()
	if err := r.Documents(func(d profile.Document) error { all = append(all, d); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func start(t *testing.T, o startup.Options) *startup.Recorder {
	t.Helper()
	r, err := startup.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestRecordsInOrder(t *testing.T) {
	c := &clock{now: time.Unix(1e9, 0)}
	one, two := id("tree one"), id("tree two")
	o := startup.Options{
		Dir: t.TempDir(), Window: time.Hour, Clock: c.Now,
		Naming: naming(map[object.ContentID][]imagemeta.TreeID{id("a"): {one}, id("b"): {one, two}, id("z"): {two}}),
		Process: func(_ context.Context, handle string) string {
			return map[string]string{"h1": "web", "h2": "rm -rf /"}[handle]
		},
	}
	r := start(t, o)
	r.Opened(id("a")) // nobody is starting
	r.Begin("h1", one)
	c.forward(20 * time.Millisecond)
	r.Opened(id("b"))
	r.Begin("h2", two)
	c.forward(10 * time.Millisecond)
	for range 2 {
		r.Opened(id("a"))
		r.Opened(id("z"))
	}
	r.End("h1")
	r.Opened(id("b")) // h1 is through, h2 is not
	r.End("h1")
	r.Close()
	r.Begin("h3", one) // after the end
	r.Opened(id("a"))

	want := map[object.ContentID]profile.Profile{
		one: {Process: "web", Opens: []profile.Open{{Content: id("b"), Millis: 20}, {Content: id("a"), Millis: 30}}},
		two: {Opens: []profile.Open{{Content: id("b"), Millis: 10}, {Content: id("z"), Millis: 10}}},
	}
	check := func(all []profile.Document) {
		t.Helper()
		if len(all) != 2 {
			t.Fatalf("%d documents", len(all))
		}
		for _, d := range all {
			p := d.Profiles[0]
			slices.SortStableFunc(p.Opens, func(a, b profile.Open) int { return int(a.Millis - b.Millis) })
			w := want[d.Tree]
			if len(d.Profiles) != 1 || p.Process != w.Process || len(p.Opens) != len(w.Opens) || p.Opens[0].Millis != w.Opens[0].Millis {
				t.Errorf("%+v, want %+v", p, w)
			}
			for _, o := range w.Opens {
				if !slices.Contains(p.Opens, o) {
					t.Errorf("%s lacks %+v", d.Tree, o)
				}
			}
		}
	}
	check(documents(t, r))
	check(documents(t, start(t, o))) // it survives a restart
}

func TestWindowEndsByItself(t *testing.T) {
	tree := id("tree")
	r := start(t, startup.Options{Dir: t.TempDir(), Window: time.Millisecond, Naming: func(object.ContentID) []imagemeta.TreeID { return []imagemeta.TreeID{tree} }})
	for deadline := time.Now().Add(30 * time.Second); len(documents(t, r)) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the window never ended")
		}
		r.Begin("h", tree)
		r.Opened(id("a"))
		time.Sleep(2 * time.Millisecond)
	}
}

// A second start adds to the first, damage is begun anew, and old trees go.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	trees := []imagemeta.TreeID{id("1"), id("2"), id("3")}
	r := start(t, startup.Options{Dir: dir, Trees: 2, Naming: func(object.ContentID) []imagemeta.TreeID { return trees }})
	record := func(tree imagemeta.TreeID, content string) {
		t.Helper()
		r.Begin("h", tree)
		r.Opened(id(content))
		r.End("h")
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			for _, d := range documents(t, r) {
				if d.Tree == tree && slices.Contains(d.Order(), id(content)) {
					return
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s was not kept", content)
			}
		}
	}
	record(trees[0], "a")
	record(trees[0], "b")
	if all := documents(t, r); len(all) != 1 || len(all[0].Order()) != 2 {
		t.Errorf("%+v", all)
	}
	file := filepath.Join(dir, trees[0].String()+".json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := documents(t, r); len(all) != 0 {
		t.Errorf("damage was read: %+v", all)
	}
	record(trees[0], "c")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	record(trees[1], "a")
	record(trees[2], "a")
	all := documents(t, r)
	if len(all) != 2 || slices.ContainsFunc(all, func(d profile.Document) bool { return d.Tree == trees[0] }) {
		t.Errorf("with room for two trees: %d", len(all))
	}
}
