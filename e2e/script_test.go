package e2e_test

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	needRoot(t)
	bin := programs(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
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
