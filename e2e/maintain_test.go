package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What collecting and recompressing leave is accepted by the independent reader
// of the format and by our own, and what was published stays what it was.
func TestMaintainedRepository(t *testing.T) {
	tool := needTool(t, "verify_repo.py")
	s := newSite(t, "--compression", "zlib", "--hash", "sha1")
	tar := filepath.Join(s.dir, "tree.tar")
	run(t, s.dir, "python3", abs(t, "testdata/tree.py"), tar)
	for _, version := range []string{"1", "2"} {
		s.publish(t, "rootfs", "one", version, tar)
	}
	leases := filepath.Join(s.dir, "leases")
	rootstock := filepath.Join(programs(t), "rootstock")
	pub, err := filepath.Glob(filepath.Join(s.keys, "*.pub"))
	if err != nil || len(pub) != 1 {
		t.Fatal(pub, err)
	}
	accepted := func(after string) {
		t.Helper()
		run(t, s.dir, rootstock, "check", "--store", s.store, "--key", pub[0], "--tags")
		cmd := exec.Command("python3", tool, s.store)
		cmd.Env = append(os.Environ(), "CVMFS_PUBKEYS="+s.keys+"/*.pub")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "OK ") || !strings.Contains(string(out), "'reflogY': 1") ||
			strings.Contains(string(out), "'missing'") || strings.Contains(string(out), "'zdiff'") {
			t.Fatalf("after %s: %v\n%s", after, err, out)
		}
	}
	collect := func() {
		t.Helper()
		// Objects as old as those of last week; what runs was asked a moment ago.
		old := time.Now().Add(-7 * 24 * time.Hour)
		err := filepath.WalkDir(filepath.Join(s.store, "data"), func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			return os.Chtimes(path, old, old)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(leases, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		soon := time.Now().Add(time.Hour)
		if err := os.Chtimes(leases, soon, soon); err != nil {
			t.Fatal(err)
		}
		run(t, s.dir, rootstock, "gc", "--store", s.store, "--keys", s.keys, "--leases", leases, "--keep-for", "0s", "--grace", "0s")
	}
	list := func() string { return run(t, s.dir, rootstock, "ls", "--store", s.store, "--json") }
	before := list()
	accepted("publishing")
	collect()
	accepted("gc")
	for _, to := range []string{"none", "zlib"} {
		run(t, s.dir, rootstock, "recompress", "--store", s.store, "--keys", s.keys, "--cache", filepath.Join(s.dir, "cache"), "--compression", to)
		accepted("recompress " + to)
		collect()
		accepted("gc after recompress " + to)
	}
	if after := list(); after != before {
		t.Errorf("ls was\n%sand is\n%s", before, after)
	}
}
