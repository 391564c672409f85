package bosh_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"
)

const release = "../../bosh"

// packageSpec is packages/NAME/spec.
type packageSpec struct {
	Name         string   `yaml:"name"`
	Dependencies []string `yaml:"dependencies"`
	Files        []string `yaml:"files"`
}

// parse reads YAML strictly.
func parse(t testing.TB, file string, into any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, file)))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// names lists a directory.
func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func packageSpecs(t testing.TB) map[string]packageSpec {
	t.Helper()
	all := map[string]packageSpec{}
	for _, name := range names(t, release+"/packages") {
		var s packageSpec
		parse(t, filepath.Join(release, "packages", name, "spec"), &s)
		if s.Name != name {
			t.Errorf("package %s calls itself %s", name, s.Name)
		}
		all[name] = s
	}
	return all
}

// order sorts packages so that each comes after what it depends on.
func order(t testing.TB, all map[string]packageSpec) (sorted []string) {
	t.Helper()
	var visit func(name string, above []string)
	visit = func(name string, above []string) {
		if slices.Contains(above, name) {
			t.Fatalf("packages depend on each other: %v", append(above, name))
		}
		s, ok := all[name]
		if !ok {
			t.Fatalf("%v depends on package %s, which is not there", above, name)
		}
		for _, d := range s.Dependencies {
			visit(d, append(above, name))
		}
		if !slices.Contains(sorted, name) {
			sorted = append(sorted, name)
		}
	}
	for name := range all {
		visit(name, nil)
	}
	return sorted
}

// assemble copies the files of a package from src as BOSH does: by its globs,
// symbolic links not followed, and packaging beside them.
func assemble(t testing.TB, s packageSpec, src, to string) {
	t.Helper()
	found := 0
	for _, glob := range s.Files {
		root, ok := strings.CutSuffix(glob, "/**/*")
		if !ok {
			t.Fatalf("package %s: this test understands DIRECTORY/**/* only, not %s", s.Name, glob)
		}
		err := filepath.WalkDir(filepath.Join(src, root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if !d.Type().IsRegular() {
				return errors.New(path + " is not a plain file: BOSH would leave it out")
			}
			found++
			rel, err := filepath.Rel(src, path)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o755); err != nil {
				return err
			}
			// As good as a copy: packaging may move and remove names, not write into files.
			return os.Link(path, filepath.Join(to, rel))
		})
		must(t, err)
	}
	if found == 0 {
		t.Fatalf("package %s has no files", s.Name)
	}
	write(t, filepath.Join(to, "packaging"), read(t, filepath.Join(release, "packages", s.Name, "packaging")), 0o755)
}

var compiled struct {
	sync.Once
	ok bool
}

// compile stages the release and compiles its packages into /var/vcap/packages,
// once.
func compile(t *testing.T) {
	t.Helper()
	needRoot(t)
	compiled.Do(func() {
		src := filepath.Join(os.Getenv(inside), "vcap", "staged")
		command(t, release+"/stage", src)
		all := packageSpecs(t)
		for _, name := range order(t, all) {
			dir := filepath.Join("/var/vcap/data/compile", name)
			target := filepath.Join("/var/vcap/data/packages", name)
			must(t, errors.Join(os.MkdirAll(target, 0o755), os.MkdirAll("/var/vcap/packages", 0o755),
				os.Symlink(target, filepath.Join("/var/vcap/packages", name))))
			assemble(t, all[name], "/var/vcap/staged", dir)
			cmd := exec.CommandContext(t.Context(), "bash", "-x", "packaging")
			cmd.Dir = dir
			// The build cache is what makes this take seconds; nothing else of
			// this machine is known to the script.
			cmd.Env = []string{
				"PATH=/usr/bin:/bin", "HOME=/nonexistent", "GOCACHE=" + strings.TrimSpace(command(t, "go", "env", "GOCACHE")),
				"BOSH_COMPILE_TARGET=" + dir, "BOSH_INSTALL_TARGET=" + target, "BOSH_PACKAGE_NAME=" + name,
			}
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("package %s: %v\n%s", name, err, said)
			}
			must(t, os.RemoveAll(dir))
		}
		must(t, os.RemoveAll("/var/vcap/staged"))
		compiled.ok = true
	})
	if !compiled.ok {
		t.Fatal("the packages do not compile")
	}
}

// Packages compile in the order of their dependencies, with nothing but what is
// staged, and make static programs that run.
func TestPackages(t *testing.T) {
	t.Parallel()
	compile(t)
	for _, program := range []string{"rootstock", "rootstock-cell"} {
		if said := command(t, "/var/vcap/packages/rootstock/bin/"+program, "--help"); !strings.Contains(said, program) {
			t.Errorf("%s --help says %q", program, said)
		}
	}
	if said := command(t, "/var/vcap/packages/rootstock/bin/rootstock-plugin", "gc"); !strings.Contains(said, "cleaned") {
		t.Errorf("rootstock-plugin gc says %q", said)
	}
}

// Scripts are bash as they are: no template language in them, and nothing that
// bash -n or shellcheck finds.
func TestScripts(t *testing.T) {
	t.Parallel()
	scripts := []string{release + "/stage"}
	for _, glob := range []string{"/jobs/*/templates/bin/*", "/packages/*/packaging"} {
		found, err := filepath.Glob(release + glob)
		must(t, err)
		scripts = append(scripts, found...)
	}
	if len(scripts) < 10 {
		t.Fatalf("only %v", scripts)
	}
	for _, s := range scripts {
		if text := read(t, s); strings.Contains(text, "<%") || !strings.HasPrefix(text, "#!/usr/bin/env bash\n") {
			t.Errorf("%s is not a plain bash script", s)
		}
		command(t, "bash", "-n", s)
	}
	if said, err := exec.CommandContext(t.Context(), "shellcheck", scripts...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, said)
	}
}

// Where there is the real CLI, it makes the release.
func TestCreateRelease(t *testing.T) {
	t.Parallel()
	cli, err := exec.LookPath("bosh")
	if err != nil {
		t.Skip("SKIPPED: there is no bosh CLI on PATH: create-release did not run")
	}
	needRoot(t)
	dir := t.TempDir()
	for _, part := range []string{"config", "jobs", "packages"} {
		must(t, os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(release, part))))
	}
	command(t, release+"/stage", filepath.Join(dir, "src"))
	tarball := filepath.Join(dir, "release.tgz")
	cmd := exec.CommandContext(t.Context(), cli, "--non-interactive", "create-release", "--dir", dir, "--force", "--tarball", tarball, "--version", "0.0.1-test")
	cmd.Env = append(os.Environ(), "HOME="+dir)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("bosh create-release: %v\n%s", err, said)
	}
	listed := command(t, "tar", "-tzf", tarball)
	for _, want := range []string{"jobs/rootstock-cell.tgz", "jobs/rootstock-garden.tgz", "jobs/rootstock-stratum0.tgz", "packages/golang.tgz", "packages/rootstock.tgz"} {
		if !strings.Contains(listed, want) {
			t.Errorf("the release has no %s:\n%s", want, listed)
		}
	}
}
