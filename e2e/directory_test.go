package e2e_test

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/e2e/rig"
	"github.com/rootstock-cf/rootstock/object"
)

// goldenSite is a golden set as a site.
func goldenSite(t *testing.T, set, variant, fqrn string) *site {
	t.Helper()
	t.Setenv("CVMFS_GOLDEN_VAR", "/opt/golden")
	dir := filepath.Join(needGolden(t), set)
	return &site{name: fqrn, dir: t.TempDir(), bin: programs(t), keys: filepath.Join(dir, "keys"), url: rig.Serve(t, filepath.Join(dir, variant))}
}

// sameOnBothTiers makes a container of ref on each tier and compares them. It
// returns the one on the image tier.
func sameOnBothTiers(t *testing.T, s *site, ref string) (*cellDaemon, string) {
	t.Helper()
	trees := s.cell(t, "--tier", "tree")
	want := walk(t, trees.create("plugin.json", ref, "tree"))
	if len(want) < 3 {
		t.Fatalf("%s holds %d entries", ref, len(want))
	}
	maps.DeleteFunc(want, func(name string, e seen) bool { return path.Base(name) == ".cvmfscatalog" })
	images := s.cell(t, "--tier", "image")
	root := images.create("plugin.json", ref, "image")
	if st := images.status(); st.Images == nil || st.Images.Trees != 1 {
		t.Fatalf("%s is no image: %+v\n%s", ref, st.Images, images.log)
	}
	if d := cmp.Diff(want, walk(t, root)); d != "" {
		t.Errorf("%s differs (-tree tier +image tier):\n%.8000s", ref, d)
	}
	return images, root
}

// Directories of repositories that stock CernVM-FS wrote are images, and show
// what the tree tier shows.
func TestGoldenImages(t *testing.T) {
	needImageTier(t)
	for set, refs := range map[string][]string{
		"basic": {"-/", "-/deep/level00"}, "nested": {"-/"}, "chunked": {"-/"}, "chunkeddef": {"-/"},
		"shake128": {"-/"}, "uncompressed": {"-/"}, "tags": {"-/"},
	} {
		for _, ref := range refs {
			t.Run(set+strings.ReplaceAll(ref, "/", "_"), func(t *testing.T) {
				sameOnBothTiers(t, goldenSite(t, set, "repo", set+".golden.cf"), ref)
			})
		}
	}
}

// What is cached of a directory outlives the daemon, and the next daemon goes on
// with it.
func TestGoldenImageRestart(t *testing.T) {
	needImageTier(t)
	c, root := sameOnBothTiers(t, goldenSite(t, "chunked", "repo", "chunked.golden.cf"), "-/")
	second := c.create("plugin.json", "-/", "second")
	before := c.status()
	want := walk(t, second)
	if after := c.status(); after.Images.Requests != before.Images.Requests || after.Exposure == nil || after.Exposure.Bytes != 0 {
		t.Errorf("%d requests for what is cached, exposure %+v", after.Images.Requests-before.Images.Requests, after.Exposure)
	}
	c.kill()
	if d := cmp.Diff(want, walk(t, second)); d != "" {
		t.Errorf("without a daemon:\n%.4000s", d)
	}
	c.start()
	if st := c.status(); st.Images.Trees != 1 || st.Repositories[0].Containers != 2 || st.Exposure.Bytes != 0 {
		t.Errorf("after a restart: %d trees, %d containers, exposure %+v", st.Images.Trees, st.Repositories[0].Containers, st.Exposure)
	}
	third := c.create("plugin.json", "-/", "third")
	if d := cmp.Diff(want, walk(t, third)); d != "" {
		t.Errorf("after a restart:\n%.4000s", d)
	}
	for _, handle := range []string{"image", "second", "third"} {
		c.plugin("plugin.json", "delete", handle)
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("the first container is still there")
	}
	c.nothingMounted("cache/mnt/trees")
	if st := c.status(); st.Images.Trees != 0 {
		t.Errorf("%d trees are held by nobody", st.Images.Trees)
	}
}

// A scrub finds a damaged file of a directory, and who stands on it; and what the
// directory takes on the disk is known.
func TestGoldenImageDamaged(t *testing.T) {
	needImageTier(t)
	c := goldenSite(t, "nested", "repo", "nested.golden.cf").cell(t, "--tier", "image")
	root := c.create("plugin.json", "-/", "first")
	c.create("plugin.json", "-/", "second")
	var file string
	must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if info, ierr := e.Info(); err == nil && ierr == nil && e.Type().IsRegular() && info.Size() > 0 && info.Size() < 64<<10 { // in one piece
			file = path
		}
		return err
	}))
	plain, err := os.ReadFile(file)
	must(t, err)
	cached := filepath.Join(c.dir, "cache", object.ContentOf(plain).CachePath())
	must(t, os.WriteFile(cached, bytes.Repeat([]byte("x"), len(plain)), 0o444))
	out, err := exec.Command(c.s.bin+"/rootstock-cell", "scrub", "--json", "--socket", c.dir+"/cell.sock").Output()
	if err == nil || !strings.Contains(string(out), `"replaced":true`) || !strings.Contains(string(out), `["first","second"]`) {
		t.Errorf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(cached); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("not replaced: %v", err)
	}
	disk := run(t, "", c.s.bin+"/rootstock-cell", "df", "--json", "--socket", c.dir+"/cell.sock")
	if !strings.Contains(disk, `"containers":2`) || !strings.Contains(disk, `"counted":true`) {
		t.Errorf("df: %s", disk)
	}
}

// A directory that no image can show is shown by the mount, and the log says why.
func TestGoldenImageBroken(t *testing.T) {
	needImageTier(t)
	s := goldenSite(t, "fail", "nestedcatalog-tampered", "fail.golden.cf")
	c := s.cell(t, "--tier", "image")
	root := c.create("plugin.json", "-/", "h")
	if broken := unreadable(t, root); len(broken) != 1 || broken[0] != "/nest" {
		t.Errorf("unreadable: %v", broken)
	}
	if st := c.status(); st.Images.Trees != 0 || st.Tier != cell.TierImage || !strings.Contains(c.log.String(), "container gets the tree tier") {
		t.Errorf("%+v\n%s", st.Images, c.log)
	}
}
