package history_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/object"
)

// What stock CernVM-FS leaves of the tags (CVMFS-FORMAT 3.2): everything
// younger goes, the target and trunk are the new revision.
func TestRollback(t *testing.T) {
	to := tag("two", 2)
	made := history.Tag{Root: root(9), Revision: 6, Timestamp: 6000, Size: 8192}
	moved := to
	moved.Root, moved.Revision, moved.Timestamp, moved.Size = made.Root, made.Revision, made.Timestamp, made.Size
	trunk := moved
	trunk.Name, trunk.Description = history.Trunk, "current HEAD"
	for _, c := range []struct {
		target string
		tags   []history.Tag
		gone   string
	}{
		{"two", []history.Tag{trunk, moved, tag("also-two", 2), tag("one", 1)}, "four three"},
		{history.TrunkPrevious, []history.Tag{trunk, tag("four", 4), tag("three", 3), tag("also-two", 2), tag("two", 2), tag("one", 1)}, ""},
	} {
		w, path := create(t)
		for i := 1; i <= 5; i++ {
			must(t, w.Publish(root(i), uint64(i), int64(1000*i), 4096))
		}
		for i, name := range []string{"one", "two", "three", "four"} {
			must(t, w.Add(tag(name, i+1)))
		}
		must(t, w.Add(tag("also-two", 2)))
		target, ok, err := w.Get(c.target)
		must(t, err)
		if !ok {
			t.Fatalf("no tag %s", c.target)
		}
		gone, err := w.Rollback(target, made)
		must(t, err)
		if names(gone) != c.gone {
			t.Errorf("to %s: removed %q, want %q", c.target, names(gone), c.gone)
		}
		must(t, w.Finish(object.Hash{}))
		got, err := open(t, path).List()
		must(t, err)
		if diff := cmp.Diff(c.tags, got); diff != "" {
			t.Errorf("to %s: %s", c.target, diff)
		}
	}
}
