package e2e_test

import (
	"testing"

	"github.com/rootstock-cf/rootstock/e2e/rig"
)

type seen = rig.Seen

func walk(t *testing.T, root string) map[string]seen {
	t.Helper()
	return rig.Walk(t, root)
}
