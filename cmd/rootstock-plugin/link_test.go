package main_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What is linked in is paid for by every process, used or not; these cost a
// tenth of its time each.
func TestNothingHeavyIsLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	must(t, err)
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "encoding/json") {
		t.Fatalf("go list: %s", out)
	}
	for _, heavy := range []string{"net/http", "crypto/tls", "crypto/x509", "crypto/rsa", "github.com/spf13/cobra"} {
		if slices.Contains(deps, heavy) {
			t.Errorf("the plugin links %s", heavy)
		}
	}
}
