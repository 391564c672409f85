package e2e_test

import (
	"errors"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

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
		"stop":     cmdStop,
		"end":      cmdStop, // "stop" is testscript's own, which ends the script
		"tmpfs":    cmdTmpfs,
		"keys":     cmdKeys,
		"await":    cmdAwait,
		"s3server": func(ts *testscript.TestScript, _ bool, args []string) { cmdS3Server(t, ts, args) },
		"code":     cmdCode,
	}
	testscript.Run(t, p)
}
