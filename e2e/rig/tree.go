package rig

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Tools are the checking scripts that lie beside the golden repositories: what
// they say about a mount does not depend on this project.
type Tools struct{ dir string }

// NeedTools finds the scripts for repositories in golden; without them the test
// is skipped and says so.
func NeedTools(t testing.TB, golden string) Tools {
	t.Helper()
	tools := Tools{filepath.Join(golden, "..", "tools")}
	for _, name := range []string{"treelist.py", "treecmp.py"} {
		if _, err := os.Stat(filepath.Join(tools.dir, name)); err != nil {
			t.Skipf("%v: the independent comparison did not run", err)
		}
	}
	return tools
}

// List writes a listing of everything below root, content digests included, and
// returns the file's name. The attributes by which our trees say what they are
// stay out of it: a stock client lists them, a cell answers but does not.
func (x Tools) List(t testing.TB, root string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tree.jsonl")
	out, err := os.Create(file) // #nosec G304 -- in the test's own directory
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // the script's exit code tells
	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), "python3", filepath.Join(x.dir, "treelist.py"), root)
	cmd.Stdout, cmd.Stderr = out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("list %s: %v\n%s", root, err, said.String())
	}
	dropOwn(t, file)
	return file
}

func dropOwn(t testing.TB, file string) {
	t.Helper()
	raw, err := os.ReadFile(file) // #nosec G304 -- in the test's own directory
	if err != nil {
		t.Fatal(err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, "user.rootstock.") {
			line = withoutOwn(t, line)
		}
		kept.WriteString(line)
	}
	if err := os.WriteFile(file, []byte(kept.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func withoutOwn(t testing.TB, line string) string {
	t.Helper()
	var entry map[string]any
	if err := json.Unmarshal([]byte(line), &entry); err != nil {
		t.Fatal(err)
	}
	attrs, _ := entry["xattrs"].(map[string]any)
	for name := range attrs {
		if strings.HasPrefix(name, "user.rootstock.") {
			delete(attrs, name)
		}
	}
	if len(attrs) == 0 {
		delete(entry, "xattrs")
	}
	b, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

// Same fails the test if two listings differ in anything but sizes of
// directories.
func (x Tools) Same(t testing.TB, what, a, b string) {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), "python3", filepath.Join(x.dir, "treecmp.py"), a, b).CombinedOutput()
	if err != nil || len(said) > 0 {
		t.Errorf("%s: %v\n%.4000s", what, err, said)
	}
	if n := Lines(t, a); n < 2 {
		t.Errorf("%s: only %d entries were compared", what, n)
	}
}

// Lines counts the lines of a file.
func Lines(t testing.TB, file string) int {
	t.Helper()
	b, err := os.ReadFile(file) // #nosec G304 -- a test's file
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}
