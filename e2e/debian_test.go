package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// debianTar makes a real Debian root file system from the machine's own package
// sources, once per checkout.
func debianTar(t *testing.T) string {
	t.Helper()
	dir := abs(t, "../.cache/e2e")
	tar := filepath.Join(dir, "debian.tar")
	if _, err := os.Stat(tar); err == nil {
		return tar
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, pattern := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d/*.sources", "/etc/apt/sources.list.d/*.list"} {
		found, _ := filepath.Glob(pattern)
		for _, f := range found {
			if b, err := os.ReadFile(f); err == nil && (strings.Contains(string(b), "Types:") || strings.Contains(string(b), "deb ")) {
				sources = append(sources, f)
			}
		}
	}
	suite := "bookworm"
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
				suite = name
			}
		}
	}
	args := append([]string{"--quiet", "--format=tar", "--variant=minbase", "--include=libcap2-bin,iputils-ping", suite, tar + ".new"}, sources...)
	run(t, "", "mmdebstrap", args...)
	if err := os.Rename(tar+".new", tar); err != nil {
		t.Fatal(err)
	}
	return tar
}

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
	tar := debianTar(t)
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
