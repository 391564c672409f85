package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems and starts containers")
	}
}

func abs(t *testing.T, p string) string {
	t.Helper()
	a, err := filepath.Abs(p)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// goldenDir holds repositories that stock CernVM-FS wrote; "" if it is absent.
func goldenDir() string {
	dir := os.Getenv("ROOTSTOCK_GOLDEN")
	if dir == "" {
		dir = "../../shared/golden"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
		return ""
	}
	return dir
}

func needGolden(t *testing.T) string {
	t.Helper()
	dir := goldenDir()
	if dir == "" {
		t.Skip("the golden repositories are not at ../shared/golden and ROOTSTOCK_GOLDEN names no other place: reading stock repositories not tested")
	}
	return dir
}

// needTool returns a checking script that lies beside the golden repositories.
func needTool(t *testing.T, name string) string {
	t.Helper()
	p := filepath.Join(needGolden(t), "..", "tools", name)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("%s is not there: the independent check did not run", p)
	}
	return p
}

var plugin struct {
	sync.Once
	path string
	err  error
	said []byte
}

// buildPlugin builds rootstock-plugin as it is deployed: static, no race
// detector, since it is a process per call.
func buildPlugin(t *testing.T) string {
	t.Helper()
	plugin.Do(func() {
		dir, err := os.MkdirTemp("", "rootstock-e2e-")
		if err != nil {
			plugin.err = err
			return
		}
		plugin.path = filepath.Join(dir, "rootstock-plugin")
		cmd := exec.Command("go", "build", "-trimpath", "-o", plugin.path, "../cmd/rootstock-plugin")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		plugin.said, plugin.err = cmd.CombinedOutput()
	})
	if plugin.err != nil {
		t.Fatalf("build rootstock-plugin: %v\n%s", plugin.err, plugin.said)
	}
	return plugin.path
}
