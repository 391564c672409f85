package e2e_test

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rootstock-cf/rootstock/cmd/internal/cli"
)

// The programs run as processes of their own: the test binary again, under
// another name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"rootstock":      func() { os.Exit(cli.Run(cli.NewRootstock(), os.Args[1:])) },
		"rootstock-cell": func() { os.Exit(cli.Run(cli.NewCell(), os.Args[1:])) },
	})
}

func TestScripts(t *testing.T) {
	needRoot(t)
	plugin := buildPlugin(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("PLUGIN", plugin)
			env.Setenv("DEMO_CONFIG", abs(t, "demo/config.py"))
			env.Setenv("GOLDEN", goldenDir())
			return nil
		},
		Condition: func(cond string) (bool, error) {
			return cond == "golden" && goldenDir() != "", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": cmdDaemon,
			"stop":   cmdStop,
			"tmpfs":  cmdTmpfs,
			"keys":   cmdKeys,
		},
	})
}
