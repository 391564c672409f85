package publisher_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) open() *publisher.Publisher {
	s.t.Helper()
	p, err := publisher.Open(s.t.Context(), s.o)
	s.must(err)
	return p
}

func ref(t *testing.T, text string) reference.Reference {
	t.Helper()
	r, err := reference.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// there reports whether the newest revision holds a path.
func (s *site) there(path string) bool {
	s.t.Helper()
	_, err := publisher.Explain(s.t.Context(), s.o.Store, s.o.TempDir, path)
	if err != nil && !errors.Is(err, publisher.ErrNotFound) {
		s.t.Fatal(err)
	}
	return err == nil
}

func (s *site) head() manifest.Manifest {
	s.t.Helper()
	r, err := s.o.Store.Get(s.t.Context(), manifest.FileName)
	s.must(err)
	defer r.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	s.must(err)
	m, err := manifest.OpenSigned(b.Bytes(), s.o.Keys.Certificate)
	s.must(err)
	return m
}

func TestRemoveImages(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	one := s.mustPublish("images/r.example.org/x@1", image(t, "A=1", "f=same"))
	s.mustPublish("images/r.example.org/x@2", image(t, "A=1", "f=same"))
	other := s.mustPublish("images/r.example.org/y@1", image(t, "A=2", "f=same")) // the same files, another environment
	trees := "/.rootstock/trees/" + one.Tree[:2] + "/" + one.Tree
	json := func(r *publisher.Result) string {
		return "/.rootstock/images" + strings.TrimPrefix(r.Path, "/.flat") + "/image.json"
	}
	if one.Tree != other.Tree || one.Path == other.Path {
		t.Fatalf("%+v and %+v", one, other)
	}
	p := s.open()
	_, err := p.SetChannel(ctx, ref(t, "images/r.example.org/x:stable"), "1")
	s.must(err)

	// Another tag keeps the tree, but the channel was set to this one.
	if _, err := p.Remove(ctx, ref(t, "images/r.example.org/x@1")); !errors.Is(err, publisher.ErrInUse) || !strings.Contains(err.Error(), "images/r.example.org/x:stable") {
		t.Errorf("remove what a channel was set to: %v", err)
	}
	r, err := p.Remove(ctx, ref(t, "images/r.example.org/x@2"))
	s.must(err)
	if !r.TreeStays || !s.there(one.Path) || !s.there(json(one)) || s.there("/r.example.org/x:2") {
		t.Errorf("one of two tags: %+v", r)
	}
	_, err = p.RemoveChannel(ctx, ref(t, "images/r.example.org/x:stable"))
	s.must(err)
	if s.there("/channels") {
		t.Error("the last channel left its directories behind")
	}
	r, err = p.Remove(ctx, ref(t, "images/r.example.org/x@1"))
	s.must(err)
	if r.TreeStays || s.there(one.Path) || s.there(json(one)) || !s.there(json(other)) || !s.there(trees+"/listing") {
		t.Errorf("the last tag: %+v", r)
	}
	_, err = p.Remove(ctx, ref(t, "images/r.example.org/y@1"))
	s.must(err)
	for _, gone := range []string{trees, "/r.example.org", "/.flat", "/.rootstock"} {
		if s.there(gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	// And what is gone can come back.
	s.mustPublish("images/r.example.org/x@1", image(t, "A=1", "f=same"))
	if !s.there(trees + "/objects") {
		t.Error("published again, but not the tree's own files")
	}
}

// <channel>.json is not ours alone, and does not grow without bound.
func TestChannelRecord(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	for i := range 2 {
		s.mustPublish(fmt.Sprintf("rootfs/x@%d", i), rootfs(t, fmt.Sprintf("f=%d", i)))
	}
	p := s.open()
	stable := ref(t, "rootfs/x:stable")
	for i := range 60 {
		r, err := p.SetChannel(ctx, stable, fmt.Sprint(i%2))
		s.must(err)
		if want := []string{"", fmt.Sprint((i + 1) % 2)}[min(i, 1)]; r.From != want || r.Unchanged {
			t.Fatalf("move %d: %+v", i, r)
		}
	}
	all, err := publisher.Channels(ctx, s.o.Store, s.o.TempDir)
	s.must(err)
	if len(all) != 1 || all[0].Version != "1" || len(all[0].Previous) != 49 || all[0].Since.IsZero() {
		t.Fatalf("%+v", all)
	}
	// Back, and back again, is two different versions only if set says so.
	for _, want := range []string{"0", "1", "0"} {
		r, err := p.RollbackChannel(ctx, stable)
		s.must(err)
		if r.To != want {
			t.Fatalf("rolled back to %s, want %s", r.To, want)
		}
	}
	// A version that was removed is no way back, nor is another tree in its
	// place.
	_, err = p.Remove(ctx, ref(t, "rootfs/x@1"))
	s.must(err)
	if _, err := p.RollbackChannel(ctx, stable); !errors.Is(err, publisher.ErrNotFound) {
		t.Errorf("back to what is gone: %v", err)
	}
	s.mustPublish("rootfs/x@1", rootfs(t, "f=other"))
	if _, err := p.RollbackChannel(ctx, stable); err == nil || !strings.Contains(err.Error(), "published anew since") {
		t.Errorf("back to what has changed: %v", err)
	}
}

func TestChannelRecordKeepsForeignFields(t *testing.T) {
	var r publisher.ChannelRecord
	text := `{"history":[{"version":"1","tree":"t","when":"2024-01-02T03:04:05Z"}],"rings":{"canary":5}}`
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil || string(b) != text {
		t.Errorf("%s, %v", b, err)
	}
	for _, bad := range []string{`[]`, `{"history":5}`, `{`} {
		if err := json.Unmarshal([]byte(bad), &publisher.ChannelRecord{}); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestDiffFields(t *testing.T) {
	s := newSite(t)
	s.mustPublish("rootfs/x@1", rootfs(t, "a=1", "m=1", "same=s", "z=1"))
	s.mustPublish("rootfs/x@2", rootfs(t, "a=22", "b=new", "m=3", "same=s"))
	var got []publisher.Change
	d, err := publisher.Diff(t.Context(), s.o.Store, s.o.TempDir, ref(t, "rootfs/x@1"), ref(t, "rootfs/x"), func(c publisher.Change) error {
		got = append(got, c)
		return nil
	})
	s.must(err)
	want := []publisher.Change{
		{Path: "a", How: publisher.Changed, Fields: []string{"size", "content"}, Before: 1, After: 2},
		{Path: "b", How: publisher.Added, After: 3},
		{Path: "m", How: publisher.Changed, Fields: []string{"content"}, Before: 1, After: 1},
		{Path: "z", How: publisher.Missing, Before: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if d.Added != 1 || d.Removed != 1 || d.Changed != 2 || d.BytesNew != 6 || d.BytesGone != 1 { // "1" is in a, m and z
		t.Errorf("%+v", d)
	}
	stop := errors.New("enough")
	if _, err := publisher.Diff(t.Context(), s.o.Store, s.o.TempDir, ref(t, "rootfs/x@1"), ref(t, "rootfs/x@2"), func(publisher.Change) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the caller's error: %v", err)
	}
	if _, err := publisher.Diff(t.Context(), s.o.Store, s.o.TempDir, ref(t, "rootfs/x@1"), ref(t, "rootfs/x@3"), nil); !errors.Is(err, publisher.ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
}

// Hard links are compared by which names belong together: another group before
// them is no difference.
func TestDiffLinks(t *testing.T) {
	s := newSite(t)
	linked := func(names ...string) *source.Source {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, n := range names {
			name, to, _ := strings.Cut(n, ">")
			h := &tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg}
			if to != "" {
				h.Typeflag, h.Linkname = tar.TypeLink, to
			}
			s.must(w.WriteHeader(h))
		}
		s.must(w.Close())
		file := filepath.Join(t.TempDir(), "rootfs.tar")
		s.must(os.WriteFile(file, b.Bytes(), 0o600))
		src, err := source.OpenRootfs(t.Context(), file, source.Options{})
		s.must(err)
		return src
	}
	s.mustPublish("rootfs/x@1", linked("m", "n>m", "o", "p>o"))
	s.mustPublish("rootfs/x@2", linked("a", "b>a", "m", "n>m", "o", "p"))
	var got []string
	_, err := publisher.Diff(t.Context(), s.o.Store, s.o.TempDir, ref(t, "rootfs/x@1"), ref(t, "rootfs/x@2"), func(c publisher.Change) error {
		got = append(got, c.How+" "+c.Path+" "+strings.Join(c.Fields, ","))
		return nil
	})
	s.must(err)
	if diff := cmp.Diff([]string{"added a ", "added b ", "changed o link", "changed p link"}, got); diff != "" {
		t.Error(diff)
	}
}

// A content in pieces, and a listing that is not the tree's.
func TestExplainChunked(t *testing.T) {
	s := newSite(t)
	noise := make([]byte, 40<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	r := s.mustPublish("rootfs/x@1", rootfs(t, "big="+string(noise)))
	x, err := publisher.Explain(t.Context(), s.o.Store, s.o.TempDir, "/rootfs/x/1/big")
	s.must(err)
	var size int64
	for _, o := range x.Objects {
		size += o.Size
		if o.Stored <= 0 || !strings.HasSuffix(o.Name, "P") {
			t.Errorf("object %+v", o)
		}
	}
	if size != int64(len(noise)) || len(x.Objects) < 2 || x.Content != object.ContentOf(noise) || len(x.SharedBy) != 0 {
		t.Errorf("%d objects of %d bytes, content %s, shared by %v", len(x.Objects), size, x.Content, x.SharedBy)
	}
	if len(x.Versions) != 1 || x.Versions[0].Tree != r.Tree || x.Catalog != "/rootfs/x/1" {
		t.Errorf("%+v in %s", x.Versions, x.Catalog)
	}
	for path, want := range map[string]bool{
		"/rootfs/x/1/../../../big":       true, // a tree's root is its own parent
		"/rootfs/x/1/nowhere":            false,
		"/rootfs/x/../x/./1//big":        true,
		"/channels/rootfs/x/stable/big":  false,
		"/rootfs/x/1/" + revision.Marker: true,
	} {
		if got := s.there(path); got != want {
			t.Errorf("%s is there: %v", path, got)
		}
	}
}

func TestAutoTags(t *testing.T) {
	s := newSite(t)
	s.o.AutoTags = time.Hour
	for i := range 3 {
		s.mustPublish(fmt.Sprintf("rootfs/x@%d", i), rootfs(t, fmt.Sprintf("f=%d", i)))
	}
	auto := func() (names []string) {
		tags, err := publisher.Tags(t.Context(), s.o.Store, s.o.TempDir)
		s.must(err)
		for _, tag := range tags {
			if history.IsAuto(tag.Name) {
				names = append(names, fmt.Sprintf("%d %s", tag.Revision, tag.Description))
			}
		}
		return names
	}
	if diff := cmp.Diff([]string{"4 publish rootfs/x@2", "3 publish rootfs/x@1", "2 publish rootfs/x@0"}, auto()); diff != "" {
		t.Error(diff)
	}
	_, err := s.open().Tag(t.Context(), "keep", "")
	s.must(err)
	s.now = s.now.Add(2 * time.Hour)
	s.o.AutoTags = 0 // none is made, none removed
	s.mustPublish("rootfs/x@3", rootfs(t, "f=3"))
	if n := len(auto()); n != 3 {
		t.Errorf("%d automatic tags without a time span", n)
	}
	s.o.AutoTags = time.Hour
	s.mustPublish("rootfs/x@4", rootfs(t, "f=4"))
	if diff := cmp.Diff([]string{"6 publish rootfs/x@4"}, auto()); diff != "" {
		t.Error(diff)
	}
	revisions, err := publisher.History(t.Context(), s.o.Store, s.o.TempDir, 0)
	s.must(err)
	var got []string
	for _, r := range revisions {
		got = append(got, fmt.Sprintf("%d:%d", r.Number, len(r.Tags)))
	}
	if diff := cmp.Diff([]string{"6:2", "5:1", "4:1", "3:0", "2:0", "1:0"}, got); diff != "" {
		t.Error(diff)
	}
}

// A tag changes the manifest, not the revision; rollback does the reverse of
// publishing.
func TestTagAndRollback(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	s.mustPublish("rootfs/x@1", rootfs(t, "f=1"))
	before := s.head()
	_, err := s.open().Tag(ctx, "v1", "first")
	s.must(err)
	tagged := s.head()
	if tagged.RootCatalog != before.RootCatalog || tagged.Revision != before.Revision || tagged.History == before.History || tagged.Published <= before.Published {
		t.Errorf("%+v became %+v", before, tagged)
	}
	s.mustPublish("rootfs/x@2", rootfs(t, "f=2"))
	s.mustPublish("rootfs/x@3", rootfs(t, "f=3"))
	head := s.head()
	r, err := s.open().Rollback(ctx, "v1")
	s.must(err)
	if r.Revision != 5 || r.Was != 2 || r.From != 4 {
		t.Errorf("%+v", r)
	}
	revisions, err := publisher.History(ctx, s.o.Store, s.o.TempDir, 2)
	s.must(err)
	if len(revisions) != 2 || revisions[0].Number != 5 || revisions[1].Root != head.RootCatalog || revisions[0].Root == before.RootCatalog {
		t.Errorf("%+v after the head %s", revisions, head.RootCatalog)
	}
	if !s.there("/rootfs/x/1") || s.there("/rootfs/x/2") {
		t.Error("the versions are not those of the tag")
	}
	for name, want := range map[string]error{"nosuch": history.ErrNotExist, "trunk": nil} {
		if _, err := s.open().Rollback(ctx, name); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("rollback to %s: %v", name, err)
		}
	}

	// A root catalog that was collected is no way back, and ends the history.
	s.must(s.o.Store.(store.Deleter).Delete(ctx, object.Path(head.RootCatalog, object.Catalog)))
	s.mustPublish("rootfs/x@4", rootfs(t, "f=4"))
	revisions, err = publisher.History(ctx, s.o.Store, s.o.TempDir, 0)
	s.must(err)
	if len(revisions) != 2 {
		t.Errorf("%d revisions in the history", len(revisions))
	}
	s.must(s.o.Store.(store.Deleter).Delete(ctx, object.Path(s.tag("v1").Root, object.Catalog)))
	if _, err := s.open().Rollback(ctx, "v1"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "garbage collection") {
		t.Errorf("rollback to what was collected: %v", err)
	}
}

func (s *site) tag(name string) history.Tag {
	s.t.Helper()
	tags, err := publisher.Tags(s.t.Context(), s.o.Store, s.o.TempDir)
	s.must(err)
	for _, t := range tags {
		if t.Name == name {
			return t
		}
	}
	s.t.Fatalf("no tag %s", name)
	return history.Tag{}
}

func TestMeasureTrees(t *testing.T) {
	s := newSite(t)
	s.mustPublish("rootfs/x@1", rootfs(t, "a=common", "b=common", "c=one"))
	s.mustPublish("rootfs/x@2", rootfs(t, "a=common", "c=other"))
	s.mustPublish("rootfs/y@1", rootfs(t, "z=twin"))
	s.mustPublish("rootfs/y@2", rootfs(t, "z=twin"))
	all, err := publisher.List(t.Context(), s.o.Store, s.o.TempDir)
	s.must(err)
	sizes, err := publisher.MeasureTrees(t.Context(), s.o.Store, s.o.TempDir, all)
	s.must(err)
	var got []string
	for _, l := range all {
		got = append(got, fmt.Sprintf("%s %d %d", l.Reference, sizes[l.Tree].Own, sizes[l.Tree].Shared))
	}
	if diff := cmp.Diff([]string{"rootfs/x@1 3 6", "rootfs/x@2 5 6", "rootfs/y@1 0 4", "rootfs/y@2 0 4"}, got); diff != "" {
		t.Error(diff)
	}
}

// Every kind of edit asks for the lock and says who has it.
func TestEditsTakeTurns(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	s.mustPublish("rootfs/x@1", rootfs(t, "f=1"))
	p := s.open()
	unlock, err := s.o.Store.Lock(ctx, "somebody else")
	s.must(err)
	defer unlock()
	x := ref(t, "rootfs/x:stable")
	for name, edit := range map[string]func() error{
		"tag":         func() error { _, err := p.Tag(ctx, "v1", ""); return err },
		"remove tags": func() error { return p.RemoveTags(ctx, "v1") },
		"rollback":    func() error { _, err := p.Rollback(ctx, "v1"); return err },
		"remove":      func() error { _, err := p.Remove(ctx, ref(t, "rootfs/x@1")); return err },
		"set":         func() error { _, err := p.SetChannel(ctx, x, "1"); return err },
		"back":        func() error { _, err := p.RollbackChannel(ctx, x); return err },
		"away":        func() error { _, err := p.RemoveChannel(ctx, x); return err },
		"resign":      func() error { _, err := publisher.Resign(ctx, s.o, false); return err },
	} {
		if err := edit(); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "somebody else") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
