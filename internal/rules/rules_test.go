package rules_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rootstock-cf/rootstock"

type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
}

func (p pkg) rel() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// under reports whether rel is the package or folder root, or lies below it.
func under(rel, root string) bool { return rel == root || strings.HasPrefix(rel, root+"/") }

// only says which folders of ours a folder may import besides itself.
var only = map[string][]string{
	"object":    {},
	"reference": {},
	"manifest":  {"object"},
	"catalog":   {"object"},
	"imagemeta": {"object"},
	"inventory": {"object", "reference", "imagemeta"},
}

// never says what a folder must not import, directly.
var never = map[string][]string{
	"fusefs":         {"net/http", module + "/client", module + "/publisher"},
	"rootfsprovider": {module + "/fusefs", module + "/publisher", module + "/client", "net/http"},
	"client":         {module + "/publisher", module + "/store"},
	"store":          {module + "/client", module + "/publisher", module + "/replica"},
	"replica":        {module + "/publisher", module + "/fusefs", module + "/rootfsprovider", "net/http"},
	"publisher":      {module + "/client", module + "/fusefs", module + "/rootfsprovider"},
}

func TestImportsFlowOneWay(t *testing.T) {
	for _, p := range packages(t) {
		rel := p.rel()
		for root, allowed := range only {
			if !under(rel, root) {
				continue
			}
			for _, imp := range p.Imports {
				ours, ok := strings.CutPrefix(imp, module+"/")
				if ok && !under(ours, root) && !slices.ContainsFunc(allowed, func(a string) bool { return under(ours, a) }) {
					t.Errorf("%s imports %s; %s may import only %v of ours", rel, ours, root, allowed)
				}
			}
		}
		for root, banned := range never {
			if !under(rel, root) {
				continue
			}
			for _, imp := range p.Imports {
				if slices.ContainsFunc(banned, func(b string) bool { return under(imp, b) }) {
					t.Errorf("%s imports %s", rel, imp)
				}
			}
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, module+"/"); ok && under(ours, "cmd") && !under(rel, "cmd") {
				t.Errorf("%s imports %s: nothing imports cmd", rel, ours)
			}
		}
	}
}

func TestNamesAndComments(t *testing.T) {
	for _, p := range packages(t) {
		switch path.Base(p.ImportPath) {
		case "util", "utils", "common", "helper", "helpers", "misc", "manager":
			t.Errorf("%s: name the package after what it holds", p.rel())
		}
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.rel())
		}
	}
}

func TestFileLengths(t *testing.T) {
	const longest, mainLongest = 600, 40
	for _, p := range packages(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			n := lines(t, f)
			if n > longest {
				t.Errorf("%s/%s has %d lines, more than %d", p.rel(), filepath.Base(f), n, longest)
			}
			if under(p.rel(), "cmd") && filepath.Base(f) == "main.go" && n > mainLongest {
				t.Errorf("%s/main.go has %d lines, more than %d: cmd wires, it does not work", p.rel(), n, mainLongest)
			}
		}
	}
}

func lines(t *testing.T, file string) int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		n++
	}
	return n
}

// Tests and scripts that the documentation names are there.
func TestNamedTestsExist(t *testing.T) {
	root := filepath.Join("..", "..")
	tests, scripts := map[string]bool{}, map[string]bool{}
	var pages []string
	err := filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == ".cache" || d.Name() == "bin"):
			return filepath.SkipDir
		case strings.HasSuffix(name, "_test.go"):
			b, err := os.ReadFile(name) // #nosec G304 G122 -- this tree
			for _, m := range testFunction.FindAllSubmatch(b, -1) {
				tests[string(m[1])] = true
			}
			return err
		case strings.HasSuffix(name, ".txtar"):
			scripts[d.Name()] = true
		case strings.HasSuffix(name, ".md") && under(filepath.ToSlash(name), "../../docs"):
			pages = append(pages, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, page := range pages {
		b, err := os.ReadFile(page) // #nosec G304 -- this tree
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range namedTest.FindAllSubmatch(b, -1) {
			n++
			if name := string(m[1]); !tests[name] && !scripts[name] {
				t.Errorf("%s names %s, which is not there", page, name)
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d names of tests found", n)
	}
}

var (
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)\(`)
	namedTest    = regexp.MustCompile("`((?:Test|Benchmark)[A-Z]\\w+|[a-z0-9-]+\\.txtar)`")
)
