package e2e_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/e2e/rig"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// Containers stand on images wherever the kernel can show them.
func TestScripts(t *testing.T) {
	needRoot(t)
	runScripts(t, way{tier(t), cmp.Or(os.Getenv(rig.IDsVar), cell.IDsAuto)}, nil, testscript.Params{Dir: "testdata/script"})
}

// What the kernel cannot show as images it gets as trees, and if it cannot map
// their ids, with others: every script with containers, the same results; with
// a user namespace where the script has room for one. rings restarts a daemon
// under containers, which only the image tier, or a holder, is for.
func TestScriptsOnTreeTier(t *testing.T) {
	needRoot(t)
	var files []string
	for _, name := range []string{"plugin", "plugin-uris", "buildpack", "sources", "cellrun", "versions", "droplets"} {
		files = append(files, "testdata/script/"+name+".txtar")
	}
	runScripts(t, way{cell.TierTree, cell.IDsDaemon}, guardian, testscript.Params{Files: files})
}

// No script with containers is left to one tier.
func TestScriptsAskForATier(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	must(t, err)
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		must(t, err)
		if strings.Contains(string(text), "plugin.json create") && !strings.Contains(string(text), "TIER") {
			t.Errorf("%s makes containers on whatever tier there is: use $TIER and $IDS, and add it to TestScriptsOnTreeTier", name)
		}
	}
}

// tier is the one that is forced, or the best one this machine has.
func tier(t testing.TB) string {
	t.Helper()
	if forced := os.Getenv(rig.TierVar); forced != "" {
		return forced
	}
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

func runScripts(t *testing.T, w way, mapping []overlay.IDRange, p testscript.Params) {
	bin, mapped := programs(t), ""
	if mapping != nil {
		text, err := json.Marshal(mapping)
		must(t, err)
		mapped = string(text)
	}
	p.RequireExplicitExec = true
	p.RequireUniqueNames = true
	p.Setup = func(env *testscript.Env) error {
		env.Setenv("HOME", env.WorkDir)
		env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
		env.Setenv("DEMO_CONFIG", abs(t, "demo/config.py"))
		env.Setenv("GOLDEN", goldenDir())
		env.Setenv("TIER", w.tier)
		env.Setenv("IDS", w.ids)
		env.Setenv("MAPPED", mapped)
		return nil
	}
	p.Condition = func(cond string) (bool, error) {
		return cond == "golden" && goldenDir() != "" || cond == "mapped" && mapped != "", nil
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
