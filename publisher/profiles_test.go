package publisher_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
)

func recorded(t *testing.T, tree string, contents ...string) profile.Document {
	t.Helper()
	id, err := object.ParseContentID(tree)
	if err != nil {
		t.Fatal(err)
	}
	p := profile.Profile{Process: "web"}
	for i, c := range contents {
		p.Opens = append(p.Opens, profile.Open{Content: object.ContentOf([]byte(c)), Millis: int64(i)})
	}
	return profile.Document{Tree: id, Profiles: []profile.Profile{p}}
}

func (s *site) profile(all []profile.Document, packed int64) *publisher.Profiled {
	s.t.Helper()
	p, err := publisher.Open(s.t.Context(), s.o)
	if err != nil {
		s.t.Fatal(err)
	}
	done, err := p.PublishProfiles(s.t.Context(), all, packed)
	if err != nil {
		s.t.Fatal(err)
	}
	return done
}

// startup is a tree's pack: its order, and what is in it.
func (s *site) startup(tree string) (order, in []string) {
	s.t.Helper()
	known := map[object.ContentID]string{}
	for _, c := range []string{"a1", "a2", "b", "large", "c", "foreign"} {
		known[object.ContentOf([]byte(c))] = c
	}
	b, err := s.reader().Note(s.t.Context(), tree, publisher.PackNote, 64<<20)
	if errors.Is(err, publisher.ErrNoNote) {
		return nil, nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	err = profile.ReadPack(bytes.NewReader(b), int64(len(b)), func(ids []object.ContentID, _ []int) {
		for _, id := range ids {
			order = append(order, known[id])
		}
	}, func(id object.ContentID, _ []byte) error { in = append(in, known[id]); return nil })
	if err != nil {
		s.t.Fatal(err)
	}
	return order, in
}

func TestProfilesAreMergedAndPacked(t *testing.T) {
	s := newSite(t)
	r := s.mustPublish("rootfs/demo@1", rootfs(t, "a=a1", "b=b", "l=large", "c=c"))
	if order, _ := s.startup(r.Tree); order != nil {
		t.Fatalf("a new tree has a profile: %q", order)
	}
	done := s.profile([]profile.Document{recorded(t, r.Tree, "b", "foreign", "large"), recorded(t, r.Tree, "b", "a1")}, 2)
	if !slices.Equal(done.Trees, []string{r.Tree}) || len(done.Unknown) != 0 {
		t.Errorf("%+v", done)
	}
	order, in := s.startup(r.Tree)
	// Both were the second thing somebody opened: which comes first is left open.
	if len(order) != 3 || order[0] != "b" || !slices.Contains(order, "a1") || !slices.Contains(order, "large") {
		t.Errorf("order %q", order)
	}
	if slices.Sort(in); !slices.Equal(in, []string{"a1", "b"}) {
		t.Errorf("packed with a limit of two bytes: %q", in)
	}
	revision := done.Revision
	if done = s.profile([]profile.Document{recorded(t, r.Tree, "b", "a1")}, 2); len(done.Trees) != 0 || done.Revision != revision {
		t.Errorf("nothing new made a revision: %+v", done)
	}
	if done = s.profile([]profile.Document{recorded(t, r.Tree, "c")}, profile.MaxPacked); done.Revision != revision+1 {
		t.Errorf("%+v", done)
	}
	if order, in = s.startup(r.Tree); len(order) != 4 || len(in) != 4 {
		t.Errorf("order %q, packed %q", order, in)
	}
	elsewhere := object.ContentOf([]byte("no tree")).String()
	if done = s.profile([]profile.Document{recorded(t, elsewhere, "b")}, 0); !slices.Equal(done.Unknown, []string{elsewhere}) {
		t.Errorf("a tree of another repository: %+v", done)
	}
	var d profile.Document
	b, err := s.reader().Note(t.Context(), r.Tree, publisher.ProfilesNote, profile.MaxDocument)
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil || len(d.Profiles) != 1 || d.Profiles[0].Process != "web" || len(d.Profiles[0].Opens) != 4 {
		t.Errorf("%+v, %v", d, err)
	}
}

// The next version starts as its predecessor did, file by file.
func TestNextVersionInheritsProfile(t *testing.T) {
	s := newSite(t)
	r := s.mustPublish("rootfs/demo@1", rootfs(t, "a=a1", "b=b", "l=large", "c=c"))
	s.profile([]profile.Document{recorded(t, r.Tree, "a1", "b", "c")}, profile.MaxPacked)
	next := s.mustPublish("rootfs/demo@2", rootfs(t, "a=a2", "b=b", "moved=c"))
	if order, in := s.startup(next.Tree); !slices.Equal(order, []string{"a2", "b"}) || !slices.Equal(in, order) {
		t.Errorf("inherited %q, packed %q", order, in)
	}
	other := s.mustPublish("rootfs/other@1", rootfs(t, "a=a2", "c=c"))
	if order, _ := s.startup(other.Tree); order != nil {
		t.Errorf("another name inherited %q", order)
	}
}
