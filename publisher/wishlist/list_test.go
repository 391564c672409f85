package wishlist_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/publisher/wishlist"
)

const recipe = `version: 1
user: smosciat
cvmfs_repo: unpacked.cern.ch
output_format: '$(scheme)://registry.gitlab.cern.ch/thin/$(image)'
input:
  - 'https://registry.hub.docker.com/library/fedora:latest'
  - 'https://registry.hub.docker.com/library/debian'
  - 'https://registry.hub.docker.com/library/debian@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
  - 'https://registry.hub.docker.com/library/fedora:latest'
`

func names(steps []publisher.Step) (all []string) {
	for _, s := range steps {
		all = append(all, s.String())
	}
	return all
}

// A recipe of DUCC's is a list; what it says twice is done once.
func TestRecipe(t *testing.T) {
	l, err := wishlist.Parse(strings.NewReader(recipe), ".")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := l.Steps(t.Context(), "unpacked.cern.ch", source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"docker://registry.hub.docker.com/library/fedora:latest",
		"docker://registry.hub.docker.com/library/debian:latest",
		"docker://registry.hub.docker.com/library/debian@sha256:" + strings.Repeat("a", 64),
	}
	if got := names(steps); !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	if _, err := l.Steps(t.Context(), "other.cern.ch", source.Options{}); err == nil || !strings.Contains(err.Error(), "unpacked.cern.ch") {
		t.Errorf("for another repository: %v", err)
	}
}

// Files are found by their pattern, beside the list; a pattern that matches none
// is a step that fails.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a-1.tar", "a-2.tar", "b.tar"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := wishlist.Parse(strings.NewReader("rootfs: [{file: 'a-*.tar'}, {file: b.tar, name: b, version: 1.10}, {file: 'c*'}]\nkeep: [{name: rootfs/a, versions: 2}]\n"), dir)
	if err != nil {
		t.Fatal(err)
	}
	if v := l.Rootfs[1].Version; v != "1.10" {
		t.Errorf("version %q", v)
	}
	steps, err := l.Steps(t.Context(), "x", source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "a-1.tar"), filepath.Join(dir, "a-2.tar"), filepath.Join(dir, "b.tar"), "c*", "keep 2 of rootfs/a"}
	if got := names(steps); !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	if _, err := steps[3].(*publisher.Put).Open(t.Context()); err == nil || !strings.Contains(err.Error(), "no file matches") {
		t.Errorf("a pattern without files: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                    "",
		"lists nothing":            "version: 1\n",
		"no YAML":                  "images: [",
		"another version":          "version: 2\nimages: [{source: 'oci:x'}]\n",
		"unknown field":            "images: [{source: 'oci:x', tag: y}]\n",
		"two documents":            "dirs: [{name: a, version: 1, dir: a}]\n---\ndirs: []\n",
		"alias":                    "user: &a x\ncvmfs_repo: *a\ninput: ['https://r.example.org/x']\n",
		"billion laughs":           "user: &a [x,x]\ninput: &b [*a,*a]\nimages: [*b,*b]\n",
		"too long":                 "user: " + strings.Repeat("x", 2<<20),
		"too many":                 "input: [" + strings.Repeat("'https://r.example.org/x',", 10_001) + "]\n",
		"deep":                     "input: " + strings.Repeat("[", 20_000),
		"two repositories":         "repository: a\ncvmfs_repo: b\ninput: ['https://r.example.org/x']\n",
		"no image":                 "images: [{source: debian}]\n",
		"bad pattern":              "images: [{source: 'docker://r.example.org/x:[a'}]\n",
		"pattern for a registry":   "images: [{source: 'docker://*/x:1'}]\n",
		"newest without a pattern": "images: [{source: 'docker://r.example.org/x:1', newest: 2}]\n",
		"one name for many":        "images: [{source: 'docker://r.example.org/*:1', as: 'r.example.org/y:1'}]\n",
		"input with credentials":   "input: ['https://me:secret@r.example.org/x']\n",
		"input of another scheme":  "input: ['file:///etc/passwd']\n",
		"no file":                  "rootfs: [{name: a, version: 1}]\n",
		"name without version":     "rootfs: [{file: a, name: a}]\n",
		"one version for many":     "rootfs: [{file: 'a*', name: a, version: 1}]\n",
		"image without a name":     "rootfs: [{image: 'oci:x'}]\n",
		"dir without a version":    "dirs: [{name: a, dir: a}]\n",
		"name that climbs":         "dirs: [{name: ../a, version: 1, dir: a}]\n",
		"channel of a version":     "channels: [{name: rootfs/a@1, channel: c}]\n",
		"no channel":               "channels: [{name: rootfs/a}]\n",
		"keep none":                "keep: [{name: rootfs/a, versions: 0}]\n",
		"keep of no kind":          "keep: [{name: a, versions: 1}]\n",
	} {
		if _, err := wishlist.Parse(strings.NewReader(text), "."); !errors.Is(err, wishlist.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(recipe)
	f.Add("images: [{source: 'docker://r.example.org/*:1.*', newest: 3}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := wishlist.Parse(strings.NewReader(text), "/nowhere")
		if err != nil && !errors.Is(err, wishlist.ErrMalformed) {
			t.Errorf("%v", err)
		}
		if err == nil && l == nil {
			t.Error("neither a list nor an error")
		}
	})
}
