package tree_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".poll" {
			all = append(all, e.Name())
		}
	}
	return all
}

func TestNewRevisionIsShown(t *testing.T) {
	v := viewtest.New()
	v.Add("/same/file", viewtest.File{Data: []byte("same")})
	v.Add("/changed/deep/file", viewtest.File{Data: []byte("old")})
	v.Add("/gone/file", viewtest.File{Data: []byte("gone")})
	m := mount(t, v, fusefs.Options{})
	walk(t, m.dir)
	if _, err := os.Stat(m.path("/new")); !os.IsNotExist(err) {
		t.Fatal(err)
	}
	kept, err := os.Open(m.path("/changed/deep/file"))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	keptDir := openDir(t, m.path("/gone"))

	v.Revise()
	v.Add("/changed/deep/file", viewtest.File{Data: []byte("newer")})
	v.Remove("/gone")
	v.Add("/new", viewtest.File{Data: []byte("new")})
	if got := names(t, m.dir); !slices.Contains(got, "gone") {
		t.Errorf("new revision is visible before it is announced: %v", got)
	}
	changed, err := m.fs.ShowRoot(t.Context(), m.conn)
	if !changed || err != nil {
		t.Fatalf("ShowRoot: %v, %v", changed, err)
	}
	if got, err := os.ReadFile(m.path("/changed/deep/file")); string(got) != "newer" {
		t.Errorf("changed file: %q, %v", got, err)
	}
	if got, err := os.ReadFile(m.path("/new")); string(got) != "new" {
		t.Errorf("new file, absent before: %q, %v", got, err)
	}
	if _, err := os.Stat(m.path("/gone")); !os.IsNotExist(err) {
		t.Errorf("removed directory: %v", err)
	}
	if got := names(t, m.dir); !slices.Equal(got, []string{"changed", "new", "same"}) {
		t.Errorf("listing: %v", got)
	}
	// What is open stays as it was.
	old := make([]byte, 10)
	if n, _ := kept.ReadAt(old, 0); string(old[:n]) != "old" {
		t.Errorf("open file of the old revision: %q", old[:n])
	}
	if left := getdents(t, keptDir, 4096); len(left) != 3 {
		t.Errorf("open directory of the old revision: %v", left)
	}
	// What is the same was not forgotten.
	asked := m.conn.Stats().Requests
	if got, err := os.ReadFile(m.path("/same/file")); string(got) != "same" {
		t.Errorf("unchanged file: %q, %v", got, err)
	}
	if more := m.conn.Stats().Requests - asked; more != 0 {
		t.Errorf("%d requests for an unchanged file, want 0", more)
	}
	if changed, err := m.fs.ShowRoot(t.Context(), m.conn); changed || err != nil {
		t.Errorf("ShowRoot without a new root: %v, %v", changed, err)
	}
}

// kernel records what it is told, and fails for names in bad.
type kernel struct {
	told []string
	bad  map[string]bool
}

var errKernel = errors.New("kernel said no")

func (k *kernel) InvalEntry(parent uint64, name string) error {
	if k.bad[name] {
		return errKernel
	}
	k.told = append(k.told, name)
	if parent != fusefs.RootID {
		k.told = append(k.told, "(not in the root)")
	}
	return nil
}

func (k *kernel) InvalInode(node uint64, off, length int64) error {
	if node != fusefs.RootID || off != 0 || length != 0 {
		return errors.New("only the whole root was to be invalidated")
	}
	k.told = append(k.told, "/")
	return nil
}

func TestShowRootTellsExactlyWhatChanged(t *testing.T) {
	v := viewtest.New()
	for _, n := range []string{"/a/f", "/b/f", "/c/f"} {
		v.Add(n, viewtest.File{})
	}
	f := tree.New(v, tree.Options{})
	defer f.Close()
	v.Revise()
	v.Add("/b/g", viewtest.File{})
	v.Add("/d", viewtest.File{})
	v.Remove("/c")
	k := &kernel{bad: map[string]bool{"c": true}}
	if _, err := f.ShowRoot(t.Context(), k); !errors.Is(err, errKernel) {
		t.Errorf("failure to announce: %v", err)
	}
	slices.Sort(k.told)
	if diff := cmp.Diff([]string{"/", "b", "d"}, k.told); diff != "" {
		t.Error(diff)
	}
	// What failed is announced again, even with nothing new.
	k = &kernel{}
	if _, err := f.ShowRoot(t.Context(), k); err != nil || !slices.Equal(k.told, []string{"c"}) {
		t.Errorf("second try: %v, %v", k.told, err)
	}
}

func TestShowRootKeepsTheOldRootIfItCannotCompare(t *testing.T) {
	v := viewtest.New()
	v.Add("/old", viewtest.File{})
	f := tree.New(v, tree.Options{})
	defer f.Close()
	v.Revise()
	v.Add("/new", viewtest.File{})
	v.SetHook(func(context.Context, viewtest.Op, view.Node) error { return errors.New("network down") })
	k := &kernel{}
	if changed, err := f.ShowRoot(t.Context(), k); changed || err == nil || !strings.Contains(err.Error(), "network down") {
		t.Errorf("ShowRoot: %v, %v", changed, err)
	}
	v.SetHook(nil)
	if changed, err := f.ShowRoot(t.Context(), k); !changed || err != nil || !slices.Contains(k.told, "new") {
		t.Errorf("ShowRoot later: %v, %v, told %v", changed, err, k.told)
	}
}

// A process before this one died while it told the kernel of another root: what
// the kernel remembers may be of either.
func TestShowRootAfterAnotherProcess(t *testing.T) {
	v := viewtest.New()
	v.Add("/a/f", viewtest.File{})
	v.Add("/b/f", viewtest.File{})
	first := v.Root()
	v.Revise()
	v.Remove("/a")
	v.Add("/c", viewtest.File{})
	second := v.Root()
	v.Revise()
	v.Remove("/c")
	v.Add("/d", viewtest.File{})
	f := tree.New(v, tree.Options{Roots: []view.Node{first, second}})
	defer f.Close()
	k := &kernel{}
	if _, err := f.ShowRoot(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "c", "d", "/"} {
		if !slices.Contains(k.told, name) {
			t.Errorf("%q was not announced, only %v", name, k.told)
		}
	}
	// One that is new to nobody is told all the same what was half said.
	f = tree.New(v, tree.Options{Roots: []view.Node{first, v.Root()}})
	defer f.Close()
	k = &kernel{}
	if _, err := f.ShowRoot(t.Context(), k); err != nil || !slices.Contains(k.told, "a") {
		t.Errorf("told %v, %v", k.told, err)
	}
	k = &kernel{}
	if changed, err := f.ShowRoot(t.Context(), k); err != nil || changed || len(k.told) != 0 {
		t.Errorf("once more: %v, told %v, %v", changed, k.told, err)
	}
}

func TestInvalidate(t *testing.T) {
	v := viewtest.New()
	v.Add("/dir/file", viewtest.File{Data: []byte("x")})
	m := mount(t, v, fusefs.Options{})
	walk(t, m.dir)
	dir, err := v.Node("/dir")
	if err != nil {
		t.Fatal(err)
	}
	asked := m.conn.Stats().Requests
	err = m.fs.Invalidate(m.conn, tree.Change{Parent: dir, Name: "file"}, tree.Change{Parent: dir}, tree.Change{Parent: 12345, Name: "never seen"})
	if err != nil {
		t.Fatal(err)
	}
	walk(t, m.dir)
	if m.conn.Stats().Requests == asked {
		t.Error("nothing was asked again after an invalidation")
	}
}
