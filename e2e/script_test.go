package e2e_test

import (
	"errors"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/image"
)

// Containers stand on images wherever the kernel can show them.
func TestScripts(t *testing.T) {
	needRoot(t)
	runScripts(t, tier(t), testscript.Params{Dir: "testdata/script"})
}

// What the kernel cannot show as images it gets as trees: the same script, the
// same results.
func TestScriptsOnTreeTier(t *testing.T) {
	needRoot(t)
	if tier(t) == cell.TierTree {
		t.Skip("TestScripts runs on the tree tier already")
	}
	runScripts(t, cell.TierTree, testscript.Params{Files: []string{"testdata/script/plugin.txtar"}})
}

// tier is the best one this machine has.
func tier(t testing.TB) string {
	t.Helper()
	err := image.Probe(t.Context(), t.TempDir())
	if errors.Is(err, image.ErrUnsupported) {
		t.Logf("THE IMAGE TIER IS NOT TESTED: %v", err)
		return cell.TierTree
	}
	if err != nil {
		t.Fatal(err)
	}
	return cell.TierImage
}

func runScripts(t *testing.T, tier string, p testscript.Params) {
	bin := programs(t)
	p.RequireExplicitExec = true
	p.RequireUniqueNames = true
	p.Setup = func(env *testscript.Env) error {
		env.Setenv("HOME", env.WorkDir)
		env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
		env.Setenv("DEMO_CONFIG", abs(t, "demo/config.py"))
		env.Setenv("GOLDEN", goldenDir())
		env.Setenv("TIER", tier)
		return nil
	}
	p.Condition = func(cond string) (bool, error) {
		return cond == "golden" && goldenDir() != "", nil
	}
	p.Cmds = map[string]func(*testscript.TestScript, bool, []string){
		"daemon":   cmdDaemon,
		"end":      cmdEnd,
		"tmpfs":    cmdTmpfs,
		"keys":     cmdKeys,
		"await":    cmdAwait,
		"s3server": func(ts *testscript.TestScript, _ bool, args []string) { cmdS3Server(t, ts, args) },
		"code":     cmdCode,
	}
	testscript.Run(t, p)
}

// A script that says stop ends there and passes, whatever was to come.
func TestScriptsRunToTheEnd(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	stop := regexp.MustCompile(`(?m)^[^#\n]*\bstop\b`)
	for _, name := range scripts {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if line := stop.Find(a.Comment); line != nil {
			t.Errorf("%s: %q ends the script; to end a daemon say end NAME", name, line)
		}
	}
}
