package rig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Debian makes a real Debian root file system from the machine's own package
// sources, once per checkout, and returns the tar of it.
func Debian(t testing.TB) string {
	t.Helper()
	module := strings.TrimSpace(Run(t, "go", "list", "-m", "-f", "{{.Dir}}"))
	tar := filepath.Join(module, ".cache/e2e/debian.tar")
	if _, err := os.Stat(tar); err == nil {
		return tar
	}
	if err := os.MkdirAll(filepath.Dir(tar), 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"--quiet", "--format=tar", "--variant=minbase", "--include=libcap2-bin,iputils-ping", suite(), tar + ".new"}
	Run(t, "mmdebstrap", append(args, sources()...)...)
	if err := os.Rename(tar+".new", tar); err != nil {
		t.Fatal(err)
	}
	return tar
}

// sources are the files that say where the machine has its packages from.
func sources() (files []string) {
	for _, pattern := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d/*.sources", "/etc/apt/sources.list.d/*.list"} {
		found, _ := filepath.Glob(pattern)
		for _, f := range found {
			if b, err := os.ReadFile(f); err == nil && (strings.Contains(string(b), "Types:") || strings.Contains(string(b), "deb ")) {
				files = append(files, f)
			}
		}
	}
	return files
}

// suite is what the machine's own release is called.
func suite() string {
	name := "bookworm"
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(b)) {
			if codename, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
				name = codename
			}
		}
	}
	return name
}
