package publisher_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/seen"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/store"
)

// remembering gives the site a memory whose clock is an hour ahead, so that
// files the test has just written are old.
func (s *site) remembering() {
	s.o.Seen = seen.Open(filepath.Join(s.o.IndexDir, ".seen"), seen.Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
}

func (s *site) file(path string) *source.Source {
	s.t.Helper()
	src, err := source.OpenRootfs(s.t.Context(), path, source.Options{Seen: s.o.Seen})
	s.must(err)
	return src
}

// An unchanged file is not read, under its own version and under another.
func TestUnchangedFileIsNotRead(t *testing.T) {
	s := newSite(t)
	s.remembering()
	b := tarOf(t, "a=1", "b=2", "var/lib/dpkg/status=Package: x\nStatus: install ok installed\nVersion: 1\n")
	path := filepath.Join(t.TempDir(), "x.tar")
	s.must(os.WriteFile(path, b, 0o600))
	info, err := os.Stat(path)
	s.must(err)
	one := s.mustPublish("rootfs/x@1", s.file(path))

	// Whoever reads the file now fails. Its state is made known again as it
	// is, which no file system would do.
	state, _ := seen.StateOf(path, info)
	known, ok := s.o.Seen.File(state)
	if !ok {
		t.Fatal("the file is not known")
	}
	s.must(os.WriteFile(path, make([]byte, len(b)), 0o600))
	s.must(os.Chtimes(path, info.ModTime(), info.ModTime()))
	info, err = os.Stat(path)
	s.must(err)
	state, _ = seen.StateOf(path, info)
	s.o.Seen.KeepFile(state, time.Now().Add(time.Hour), known)

	open := func() *source.Source {
		src, err := source.OpenRootfs(t.Context(), path, source.Options{Seen: s.o.Seen})
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
	promoted := s.mustPublish("rootfs/x@2", open())
	if promoted.Tree != one.Tree || promoted.NewObjects != 0 || promoted.Source != one.Source {
		t.Errorf("promoted: %+v", promoted)
	}
	if got := s.purls(promoted.Tree); len(got) != 1 {
		t.Errorf("packages %v", got)
	}
	s.must(os.RemoveAll(filepath.Join(s.o.IndexDir, fqrn))) // nor is what was stored asked for
	if again := s.mustPublish("rootfs/x@1", open()); !again.Unchanged || again.Tree != one.Tree {
		t.Errorf("again: %+v", again)
	}
	s.o.VerifySource = true
	if _, err := s.publish("rootfs/x@1", open()); err == nil {
		t.Error("--verify-source did not read the file")
	}
}

// Whatever happens to the memory and to the store, the tree is that of the
// source.
func TestMemoryIsACache(t *testing.T) {
	plain := newSite(t)
	b := tarOf(t, "a=1", "b=2", "c/d=3")
	path := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	want := plain.mustPublish("rootfs/x@1", plain.file(path))
	each := func(dir string, do func(name string)) {
		all, err := filepath.Glob(filepath.Join(dir, "*"))
		plain.must(err)
		if len(all) == 0 {
			t.Fatalf("nothing in %s", dir)
		}
		for _, name := range all {
			do(name)
		}
	}
	for name, harm := range map[string]func(s *site){
		"nothing":     func(*site) {},
		"seen gone":   func(s *site) { s.must(os.RemoveAll(filepath.Join(s.o.IndexDir, ".seen"))) },
		"index gone":  func(s *site) { s.must(os.RemoveAll(filepath.Join(s.o.IndexDir, fqrn))) },
		"all is gone": func(s *site) { s.must(os.RemoveAll(s.o.IndexDir)) },
		"seen damaged": func(s *site) {
			each(filepath.Join(s.o.IndexDir, ".seen"), func(name string) {
				b, err := os.ReadFile(name)
				s.must(err)
				b[len(b)/2] ^= 1
				s.must(os.WriteFile(name, b, 0o600))
			})
		},
		"index damaged": func(s *site) {
			each(filepath.Join(s.o.IndexDir, fqrn), func(name string) {
				b, err := os.ReadFile(name)
				s.must(err)
				b[len(b)/2] ^= 1
				s.must(os.WriteFile(name, b, 0o600))
			})
		},
		"objects gone": func(s *site) {
			for _, text := range []string{"1", "2", "3"} {
				stored, err := codec.Encode(object.Zstd, nil, []byte(text))
				s.must(err)
				s.must(s.o.Store.(store.Deleter).Delete(t.Context(), object.Path(object.SHAKE128.Sum(stored), object.Bulk)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.t = t
			s.remembering()
			one := s.mustPublish("rootfs/x@1", s.file(path))
			harm(s)
			two := s.mustPublish("rootfs/x@2", s.file(path))
			if one.Tree != want.Tree || two.Tree != want.Tree || two.Source != want.Source {
				t.Errorf("trees %s and %s, want %s; source %s", one.Tree, two.Tree, want.Tree, two.Source)
			}
			have := map[string]bool{}
			for _, content := range s.contents() {
				have[object.ContentOf(content).String()] = true
			}
			for _, text := range []string{"1", "2", "3"} {
				if !have[object.ContentOf([]byte(text)).String()] {
					t.Errorf("content %q is not stored", text)
				}
			}
		})
	}
}

// Publishing again with VerifySource stores what the store has lost, of images
// as well.
func TestVerifySourceMends(t *testing.T) {
	s := newSite(t)
	s.remembering()
	s.o.VerifySource = true
	stored, err := codec.Encode(object.Zstd, nil, []byte("precious"))
	s.must(err)
	name := object.Path(object.SHAKE128.Sum(stored), object.Bulk)
	for what, src := range map[string]func() *source.Source{
		"rootfs/x@1":               func() *source.Source { return rootfs(t, "a=precious") },
		"images/r.example.org/x@1": func() *source.Source { return image(t, "A=1", "a=precious") },
	} {
		s.mustPublish(what, src())
		s.must(s.o.Store.(store.Deleter).Delete(t.Context(), name))
		if r := s.mustPublish(what, src()); !r.Unchanged {
			t.Errorf("%s: %+v", what, r)
		}
		if _, ok, err := s.o.Store.Has(t.Context(), name); err != nil || !ok {
			t.Errorf("%s: the object is still missing, %v", what, err)
		}
	}
}

// What a tag leaves behind when it moves goes when it is told to, except what a
// channel or another tag still leads to.
func TestRemoveUntagged(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	old := s.mustPublish("images/r.example.org/x@1", image(t, "A=1", "f=old", "g=only in the old"))
	held := s.mustPublish("images/r.example.org/y@1", image(t, "A=2", "f=held"))
	p := s.open()
	_, err := p.SetChannel(ctx, ref(t, "images/r.example.org/y:stable"), "1")
	s.must(err)
	kept := s.mustPublish("images/r.example.org/z@1", image(t, "A=3", "f=new")) // the new image's files
	for _, name := range []string{"x", "y"} {
		s.mustPublish("images/r.example.org/"+name+"@1", image(t, "A=9", "f=new"))
	}
	if _, err := p.Remove(ctx, ref(t, "images/r.example.org/x@none")); !errors.Is(err, publisher.ErrNotFound) {
		t.Errorf("no such tag: %v", err)
	}
	before := s.head().Revision
	gone, rev, err := p.RemoveUntagged(ctx, s.now.Add(-time.Hour))
	if err != nil || len(gone) != 0 || rev != before {
		t.Errorf("nothing is that old: %v, %d, %v", gone, rev, err)
	}
	gone, rev, err = p.RemoveUntagged(ctx, s.now.Add(time.Hour))
	if err != nil || len(gone) != 1 || gone[0].Path != old.Path || gone[0].Tree != old.Tree || rev != before+1 {
		t.Fatalf("removed %+v, revision %d after %d, %v", gone, rev, before, err)
	}
	json := "/.rootstock/images" + strings.TrimPrefix(old.Path, "/.flat")
	tree := "/.rootstock/trees/" + old.Tree[:2] + "/" + old.Tree
	for _, path := range []string{old.Path, json, tree} {
		if s.there(path) {
			t.Errorf("%s is still there", path)
		}
	}
	for _, r := range []*publisher.Result{held, kept} {
		if !s.there(r.Path) || !s.there("/.rootstock/trees/"+r.Tree[:2]+"/"+r.Tree) {
			t.Errorf("%s is gone", r.Path)
		}
	}
	if gone, rev, err = p.RemoveUntagged(ctx, s.now.Add(time.Hour)); err != nil || len(gone) != 0 || rev != before+1 {
		t.Errorf("again: %v, %d, %v", gone, rev, err)
	}
}
