package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems and starts containers")
	}
}

func abs(t testing.TB, p string) string {
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

var built struct {
	sync.Once
	dir  string
	err  error
	said []byte
}

// programs builds the three programs as they are deployed, once, and returns
// their directory.
func programs(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "rootstock-e2e-"); built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-o", built.dir+"/",
			"../cmd/rootstock", "../cmd/rootstock-cell", "../cmd/rootstock-plugin")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		built.said, built.err = cmd.CombinedOutput()
	})
	if built.err != nil {
		t.Fatalf("build the programs: %v\n%s", built.err, built.said)
	}
	return built.dir
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}
