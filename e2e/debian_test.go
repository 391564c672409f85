package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/e2e/rig"
)

func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A Debian root file system lists, through the mount, exactly as its source
// directory does. A catalog cannot say that names in different directories are
// one file, so for those alone link count and identity are not compared.
func TestDebianRootfsListsAsItsSource(t *testing.T) {
	needRoot(t)
	s := newSite(t, "--compression", "zstd")
	tar := rig.Debian(t)
	source := filepath.Join(s.dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "", "tar", "-C", source, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", tar)
	s.publish(t, "rootfs", "debian", "12", tar)
	mnt := s.mount(t)

	want, got := walk(t, source), walk(t, filepath.Join(mnt, "rootfs/debian/12"))
	if len(want) < 5000 {
		t.Fatalf("only %d entries in %s", len(want), source)
	}
	spanning := map[string]bool{}
	for name, e := range want {
		if e.Twin != "" && filepath.Dir(e.Twin) != filepath.Dir(name) {
			spanning[e.Twin] = true
		}
	}
	for name, e := range want {
		if spanning[e.Twin] {
			g := got[name]
			g.Links, g.Twin, e.Links, e.Twin = 0, "", 0, ""
			want[name], got[name] = e, g
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the mount differs from its source (-source +mount):\n%.8000s", d)
	}
	capable := 0
	for _, e := range got {
		if e.XAttrs["security.capability"] != "" {
			capable++
		}
	}
	if capable == 0 {
		t.Error("no file with a capability: the comparison proves nothing about them")
	}
}
