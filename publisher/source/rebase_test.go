package source_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootstock-cf/rootstock/publisher/source"
)

// built is an image of layers with these names, each also its one file.
func built(t *testing.T, labels map[string]string, layers ...string) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, name := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{
			Layer: static.NewLayer(makeTar(t, name, 10), types.OCIUncompressedLayer), History: v1.History{CreatedBy: name},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Config.Labels, c.Config.Env = "linux", "amd64", labels, []string{"FROM=" + layers[len(layers)-1]}
	c.Config.Entrypoint = []string{"/cnb/process/web"}
	c.History = append([]v1.History{{CreatedBy: "ENV", EmptyLayer: true}}, c.History...)
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

func diffIDs(t *testing.T, img v1.Image) []string {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, id := range c.RootFS.DiffIDs {
		all = append(all, id.String())
	}
	return all
}

func open(t *testing.T, img v1.Image) *source.Source {
	t.Helper()
	s, err := source.OpenImage(context.Background(), "oci:"+ociLayout(t, img, "r.example/app:1"), quick(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lifecycle(top string) map[string]string {
	return map[string]string{
		"io.buildpacks.lifecycle.metadata": fmt.Sprintf(`{"app":[{"sha":"x"}],"runImage":{"topLayer":%q,"reference":"old","image":"run:1"}}`, top),
		"io.buildpacks.stack.id":           "jammy", "kept": "yes",
	}
}

func TestRebase(t *testing.T) {
	run := built(t, map[string]string{"io.buildpacks.stack.id": "jammy"}, "base", "run")
	app := built(t, lifecycle(diffIDs(t, run)[1]), "base", "run", "deps", "app")
	patched := built(t, map[string]string{"io.buildpacks.stack.id": "jammy"}, "base", "patched", "fix")
	onto := open(t, patched)
	digest := onto.Digest
	s, err := source.Rebase(open(t, app), onto)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a layout has nothing to close
	var got []string
	for _, l := range s.Layers {
		if _, err := readLayer(l); err != nil {
			t.Error(err)
		}
		got = append(got, l.DiffID())
	}
	want := slices.Concat(diffIDs(t, patched), diffIDs(t, app)[2:])
	if !slices.Equal(got, want) {
		t.Errorf("layers %q, want %q", got, want)
	}
	c, err := v1.ParseConfigFile(strings.NewReader(string(s.Config)))
	if err != nil {
		t.Fatal(err)
	}
	var listed, made []string
	for _, id := range c.RootFS.DiffIDs {
		listed = append(listed, id.String())
	}
	for _, h := range c.History {
		made = append(made, h.CreatedBy)
	}
	if !slices.Equal(listed, want) || c.Config.Env[0] != "FROM=app" || c.Config.Labels["kept"] != "yes" || c.Config.Entrypoint[0] != "/cnb/process/web" ||
		strings.Join(made, " ") != "ENV base patched fix deps app" {
		t.Errorf("config %s", s.Config)
	}
	var label struct {
		App      []struct{ SHA string }
		RunImage struct{ TopLayer, Reference, Image string }
	}
	if err := json.Unmarshal([]byte(c.Config.Labels["io.buildpacks.lifecycle.metadata"]), &label); err != nil {
		t.Fatal(err)
	}
	if r := label.RunImage; r.TopLayer != diffIDs(t, patched)[2] || r.Reference != digest || r.Image != "run:1" || len(label.App) != 1 {
		t.Errorf("label %+v", label)
	}
	if s.Repository != "app" || s.Tag != "1" || s.ConfigDigest == "" || s.Digest != s.ConfigDigest {
		t.Errorf("named %s:%s, digest %s", s.Repository, s.Tag, s.Digest)
	}
	// And once more: what was rebased says where its layers begin, too.
	again, err := source.Rebase(s, open(t, run))
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Layers) != 4 || again.Layers[1].DiffID() != diffIDs(t, run)[1] {
		t.Errorf("rebased back: %d layers", len(again.Layers))
	}
}

func TestRebaseRefused(t *testing.T) {
	jammy := map[string]string{"io.buildpacks.stack.id": "jammy"}
	run := built(t, jammy, "base", "run")
	top := diffIDs(t, run)[1]
	for name, tc := range map[string]struct {
		app, onto v1.Image
		kind      error
		says      string
	}{
		"no label":      {built(t, jammy, "base", "run", "app"), run, source.ErrUnsupported, "only images that buildpacks built"},
		"no such layer": {built(t, lifecycle("sha256:1"), "base", "run", "app"), run, source.ErrFormat, "sha256:1"},
		"not JSON":      {built(t, map[string]string{"io.buildpacks.lifecycle.metadata": "{"}, "base", "app"), run, source.ErrFormat, "lifecycle.metadata"},
		"not rebasable": {built(t, map[string]string{"io.buildpacks.rebasable": "false"}, "base", "app"), run, source.ErrUnsupported, "io.buildpacks.rebasable"},
		"another stack": {built(t, lifecycle(top), "base", "run", "app"), built(t, map[string]string{"io.buildpacks.stack.id": "noble"}, "b"), source.ErrUnsupported, "noble"},
	} {
		if _, err := source.Rebase(open(t, tc.app), open(t, tc.onto)); !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
