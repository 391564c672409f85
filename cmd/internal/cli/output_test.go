package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cmd/internal/cli"
)

func run(t *testing.T, root *cobra.Command, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	if code := cli.Run(root, args); code != 0 {
		t.Fatalf("%s %q: exit code %d: %s", root.Name(), args, code, out.String())
	}
	return out.String()
}

// each calls f for a command and all below it that are shown.
func each(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			each(sub, f)
		}
	}
}

// Every command has a manual page that man can show.
func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	run(t, cli.NewRootstock(), "man", dir)
	for _, root := range []*cobra.Command{cli.NewRootstock(), cli.NewCell()} {
		each(root, func(c *cobra.Command) {
			if c.Name() == "completion" || c.HasParent() && c.Parent().Name() == "completion" {
				return
			}
			page := filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1")
			text, err := os.ReadFile(page) // #nosec G304
			if err != nil {
				t.Error(err)
				return
			}
			if !bytes.Contains(text, []byte(".TH ")) || !bytes.Contains(text, []byte(".SH SYNOPSIS")) {
				t.Errorf("%s is no manual page", page)
			}
		})
	}
}

// Shells take what completion prints, and are told commands and flags.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if text := run(t, cli.NewRootstock(), "completion", shell); !strings.Contains(text, "rootstock") {
			t.Errorf("%s: %q", shell, text)
		}
	}
	for _, root := range []*cobra.Command{cli.NewRootstock(), cli.NewCell()} {
		script := filepath.Join(t.TempDir(), "completion")
		if err := os.WriteFile(script, []byte(run(t, root, "completion", "bash")), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "bash", "-n", script).CombinedOutput(); err != nil { // #nosec G204
			t.Errorf("bash: %v\n%s", err, out)
		}
	}
	if text := run(t, cli.NewRootstock(), "__complete", "publish", "roo"); !strings.Contains(text, "rootfs") {
		t.Errorf("after publish roo: %q", text)
	}
	if text := run(t, cli.NewRootstock(), "__complete", "sync", "--dry"); !strings.Contains(text, "--dry-run") {
		t.Errorf("after sync --dry: %q", text)
	}
}

// Every command has --json, or a reason to have none.
func TestEveryCommandHasJSON(t *testing.T) {
	without := map[string]string{
		"rootstock sbom":              "what it prints is a document, in the format that is asked for",
		"rootstock man":               "it writes manual pages",
		"rootstock serve":             "a daemon: it prints where it listens and logs requests",
		"rootstock-cell run":          "a daemon: supervisors wait for its one line",
		"rootstock-cell mount":        "a daemon: supervisors wait for its one line",
		"rootstock-cell hold":         "a daemon: supervisors wait for its one line",
		"rootstock-cell mount-helper": "mount(8) calls it and says how",
	}
	for _, root := range []*cobra.Command{cli.NewRootstock(), cli.NewCell()} {
		each(root, func(c *cobra.Command) {
			if !c.Runnable() || c.HasSubCommands() || c.Name() == "completion" || c.HasParent() && c.Parent().Name() == "completion" {
				return
			}
			has := c.Flags().Lookup("json") != nil || c.InheritedFlags().Lookup("json") != nil
			why, listed := without[c.CommandPath()]
			delete(without, c.CommandPath())
			switch {
			case !has && !listed:
				t.Errorf("%s has neither --json nor a reason to have none", c.CommandPath())
			case has && listed:
				t.Errorf("%s has --json, although: %s", c.CommandPath(), why)
			}
		})
	}
	for name := range without {
		t.Errorf("there is no command %s", name)
	}
}

// Every command that prints JSON is documented with the types of its lines, and
// every command at all in docs/cli.md.
func TestCommandsAreDocumented(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile("../../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	output, all := read("output.md"), read("cli.md")
	n := 0
	for _, root := range []*cobra.Command{cli.NewRootstock(), cli.NewCell()} {
		each(root, func(c *cobra.Command) {
			_, rest, _ := strings.Cut(c.CommandPath(), " ")
			if !c.Runnable() || c.Name() == "completion" || c.HasParent() && c.Parent().Name() == "completion" {
				return
			}
			if !strings.Contains(all, c.Name()) {
				t.Errorf("docs/cli.md says nothing of %s", c.CommandPath())
			}
			if c.Flags().Lookup("json") == nil && c.InheritedFlags().Lookup("json") == nil || c.HasSubCommands() {
				return
			}
			n++
			if !strings.Contains(output, "| `"+rest+"` |") {
				t.Errorf("docs/output.md does not say what `%s --json` prints", c.CommandPath())
			}
		})
	}
	if n < 30 {
		t.Errorf("only %d commands print JSON", n)
	}
}
