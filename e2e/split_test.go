package e2e_test

import (
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store/local"
)

// A tree in many catalogs looks like one in a single catalog: the markers
// between are not listed, and link counts are those of the source.
func TestSplitTreeIsMountedWhole(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	tar := filepath.Join(s.dir, "tree.tar")
	run(t, s.dir, "python3", abs(t, "testdata/tree.py"), tar)
	st, err := local.Open(s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	keys, err := manifest.ReadKeys(s.keys, siteName)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now() // of both: it stands in the trees' xattrs
	for name, entries := range map[string]int{"one": 0, "many": 5} {
		p, err := publisher.Open(t.Context(), publisher.Options{
			Store: st, Keys: keys, TempDir: t.TempDir(), CatalogEntries: entries, Now: func() time.Time { return now },
		})
		if err != nil {
			t.Fatal(err)
		}
		src, err := source.OpenRootfs(t.Context(), tar, source.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		if _, err := p.Publish(t.Context(), publisher.Job{
			Reference: reference.Reference{Kind: reference.Rootfs, Name: name, Version: "1"}, Source: src,
		}); err != nil {
			t.Fatal(err)
		}
	}
	inner := 0
	mnt := s.mount(t)
	whole, split := filepath.Join(mnt, "rootfs/one/1"), filepath.Join(mnt, "rootfs/many/1")
	if err := filepath.WalkDir(split, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != split {
			x, err := publisher.Explain(t.Context(), st, t.TempDir(), path[len(mnt):])
			if err != nil {
				return err
			}
			if x.Catalog == x.Path {
				inner++
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if inner < 3 {
		t.Fatalf("only %d directories of the tree have catalogs of their own", inner)
	}
	if diff := cmp.Diff(walk(t, whole), walk(t, split)); diff != "" {
		t.Error(diff)
	}
}
