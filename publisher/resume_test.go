package publisher_test

import (
	"errors"
	"testing"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/publisher"
)

// A store that was restored from a copy that is behind goes on above what cells
// have seen, with what the copy had.
func TestResume(t *testing.T) {
	s := newSite(t)
	s.mustPublish("images/r.example.org/x@1", image(t, "A=1", "f=kept"))
	copied := s.head()
	for _, after := range []uint64{0, copied.Revision - 1, copied.Revision} {
		if rev, err := s.open().Resume(t.Context(), after); !errors.Is(err, publisher.ErrNotBehind) {
			t.Errorf("after %d: %d, %v", after, rev, err)
		}
	}
	if s.head() != copied {
		t.Error("refused, yet changed something")
	}
	seen := manifest.Mark{Revision: copied.Revision + 5, Published: copied.Published}
	rev, err := s.open().Resume(t.Context(), seen.Revision)
	if err != nil || rev != seen.Revision+1 {
		t.Fatalf("revision %d, %v", rev, err)
	}
	if err := manifest.Newer(seen, s.head()); err != nil || s.head().Revision != rev {
		t.Errorf("a cell at %d refuses revision %d: %v", seen.Revision, s.head().Revision, err)
	}
	if !s.there("/r.example.org/x:1") {
		t.Error("what the copy had is gone")
	}
	r := s.mustPublish("images/r.example.org/x@2", image(t, "A=1", "f=next"))
	if r.Revision != rev+1 {
		t.Errorf("the next publish is revision %d", r.Revision)
	}
}
