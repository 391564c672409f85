package source_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootstock-cf/rootstock/publisher/source"
)

// What skopeo writes in each form it has, we read.
func TestFormsOfSkopeo(t *testing.T) {
	img, tars := image(t)
	from := "oci:" + ociLayout(t, img, "v1") + ":v1"
	for name, tc := range map[string]struct {
		to   string // for skopeo; DIR is a new directory
		args []string
		spec string // for us; as to if empty
		tag  string
	}{
		"oci":            {to: "oci:DIR/x:v1", tag: "v1"},
		"oci no ref":     {to: "oci:DIR/x:v2", spec: "oci:DIR/x", tag: "v2"},
		"oci zstd":       {to: "oci:DIR/x:v1", args: []string{"--dest-compress-format", "zstd", "--dest-compress"}, tag: "v1"},
		"oci plain":      {to: "oci:DIR/x:v1", args: []string{"--dest-decompress"}, tag: "v1"},
		"oci-archive":    {to: "oci-archive:DIR/x.tar:v1", tag: "v1"},
		"docker-archive": {to: "docker-archive:DIR/x.tar:example.com/team/app:1.2", tag: "1.2"},
		"by tag":         {to: "docker-archive:DIR/x.tar:alpine:3", spec: "docker-archive:DIR/x.tar", tag: "3"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"skopeo", "--insecure-policy", "copy", "-q"}, tc.args...)
			tool(t, append(args, from, strings.ReplaceAll(tc.to, "DIR", dir))...)
			spec := tc.to
			if tc.spec != "" {
				spec = tc.spec
			}
			s := checkImage(t, strings.ReplaceAll(spec, "DIR", dir), quick(t), tars)
			if s.Tag != tc.tag {
				t.Errorf("tag %q, want %q", s.Tag, tc.tag)
			}
			switch name {
			case "docker-archive":
				if s.Registry != "example.com" || s.Repository != "team/app" {
					t.Errorf("named %q %q", s.Registry, s.Repository)
				}
			case "by tag":
				if s.Registry != "docker.io" || s.Repository != "library/alpine" {
					t.Errorf("named %q %q", s.Registry, s.Repository)
				}
			}
		})
	}
	t.Run("compressed archive", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "x.tar")
		tool(t, "skopeo", "--insecure-policy", "copy", "-q", from, "docker-archive:"+file)
		tool(t, "gzip", file)
		checkImage(t, "docker-archive:"+file+".gz", quick(t), tars)
	})
}

func TestPlatforms(t *testing.T) {
	img, tars := image(t)
	other := mutate.Annotations(img, map[string]string{"x": "y"}).(v1.Image) //nolint:forcetypeassert // stays one
	c, err := other.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.Architecture = "arm64"
	if other, err = mutate.ConfigFile(other, c); err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	nested := t.TempDir()
	p, err := layout.Write(nested, empty.Index)
	if err == nil {
		err = p.AppendIndex(index)
	}
	if err != nil {
		t.Fatal(err)
	}
	flat := t.TempDir()
	if _, err := layout.Write(flat, index); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{"oci:" + nested, "oci:" + flat} {
		for platform, want := range map[string]string{"": "amd64", "linux/arm64": "arm64"} {
			o := quick(t)
			o.Platform = platform
			if s := checkImage(t, spec, o, tars); !strings.Contains(string(s.Config), want) {
				t.Errorf("platform %q: config %s", platform, s.Config)
			}
		}
		_, err := source.OpenImage(context.Background(), spec, source.Options{Platform: "linux/s390x"})
		if !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), "linux/arm64, linux/amd64") {
			t.Errorf("missing platform: %v", err)
		}
	}
	single := "oci:" + ociLayout(t, other, "v1")
	if _, err := source.OpenImage(context.Background(), single, source.Options{}); !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), "--platform") {
		t.Errorf("single image of another platform: %v", err)
	}
}

// blobFile is where a layout keeps a digest.
func blobFile(dir string, h v1.Hash) string { return filepath.Join(dir, "blobs", h.Algorithm, h.Hex) }

func TestLayoutDamaged(t *testing.T) {
	img, _ := image(t)
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	id, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	overwrite := func(h v1.Hash, change func([]byte) []byte) func(string) error {
		return func(dir string) error {
			b, err := os.ReadFile(blobFile(dir, h))
			if err != nil {
				return err
			}
			return os.WriteFile(blobFile(dir, h), change(b), 0o600)
		}
	}
	low := m.Layers[0].Digest
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	for name, tc := range map[string]struct {
		damage func(dir string) error
		kind   error
		says   string
	}{
		"manifest flipped": {overwrite(id, flip), source.ErrDigest, id.String()},
		"config flipped":   {overwrite(m.Config.Digest, flip), source.ErrDigest, m.Config.Digest.String()},
		"config cut":       {overwrite(m.Config.Digest, func(b []byte) []byte { return b[:9] }), source.ErrDigest, "9 bytes"},
		"layer flipped":    {overwrite(low, flip), source.ErrDigest, low.String()},
		"layer cut":        {overwrite(low, func(b []byte) []byte { return b[:len(b)-9] }), source.ErrDigest, low.String()},
		"layer longer":     {overwrite(low, func(b []byte) []byte { return append(b, 0) }), source.ErrDigest, low.String()},
		"layer replaced":   {overwrite(low, func([]byte) []byte { return []byte("nonsense") }), source.ErrDigest, low.String()},
		"layer gone":       {func(dir string) error { return os.Remove(blobFile(dir, low)) }, source.ErrNotFound, low.Hex},
		"no index":         {func(dir string) error { return os.Remove(filepath.Join(dir, "index.json")) }, source.ErrNotFound, "OCI image layout"},
		"index broken":     {func(dir string) error { return os.WriteFile(filepath.Join(dir, "index.json"), []byte("{"), 0o600) }, source.ErrFormat, "index.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ociLayout(t, img, "v1")
			if err := tc.damage(dir); err != nil {
				t.Fatal(err)
			}
			s, err := source.OpenImage(context.Background(), "oci:"+dir, quick(t))
			if err == nil {
				_, err = readLayer(s.Layers[0])
			}
			if !errors.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A layer whose blob is right and whose diff id is not.
func TestWrongDiffID(t *testing.T) {
	img, _ := image(t)
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.RootFS.DiffIDs[0] = c.RootFS.DiffIDs[1]
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	s, err := source.OpenImage(context.Background(), "oci:"+ociLayout(t, img, "v1"), quick(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readLayer(s.Layers[0]); !errors.Is(err, source.ErrDigest) || !strings.Contains(err.Error(), "the config says") {
		t.Errorf("got %v", err)
	}
}

// rewritten is a layout whose manifest went through change.
func rewritten(t *testing.T, change func(*v1.Manifest)) string {
	t.Helper()
	img, _ := image(t)
	dir := ociLayout(t, img, "v1")
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m = m.DeepCopy()
	change(m)
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	h, err := v1.NewHash(digest(raw))
	if err != nil {
		t.Fatal(err)
	}
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, m.MediaType, h, len(raw))
	if err := errors.Join(os.WriteFile(blobFile(dir, h), raw, 0o600), os.WriteFile(filepath.Join(dir, "index.json"), []byte(index), 0o600)); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

func TestManifestsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1.Manifest)
		kind   error
		says   string
	}{
		"foreign":    {func(m *v1.Manifest) { m.Layers[0].MediaType = types.DockerForeignLayer }, source.ErrUnsupported, "foreign"},
		"restricted": {func(m *v1.Manifest) { m.Layers[0].MediaType = types.OCIRestrictedLayer }, source.ErrUnsupported, "foreign"},
		"restricted zst": {func(m *v1.Manifest) {
			m.Layers[0].MediaType = types.OCIRestrictedLayer[:len(types.OCIRestrictedLayer)-4] + "zstd"
		}, source.ErrUnsupported, "foreign"},
		"not a layer":    {func(m *v1.Manifest) { m.Layers[0].MediaType = "application/vnd.in-toto+json" }, source.ErrUnsupported, "in-toto"},
		"artifact":       {func(m *v1.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }, source.ErrUnsupported, "artifact"},
		"layers missing": {func(m *v1.Manifest) { m.Layers = m.Layers[:1] }, source.ErrFormat, "1 layers, the config 2"},
		"size negative":  {func(m *v1.Manifest) { m.Layers[0].Size = -1 }, source.ErrFormat, "size -1"},
		"schema 1":       {func(m *v1.Manifest) { m.MediaType = types.DockerManifestSchema1Signed }, source.ErrUnsupported, "schema 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := source.OpenImage(context.Background(), rewritten(t, tc.change), quick(t))
			if !errors.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSpecsRefused(t *testing.T) {
	img, _ := image(t)
	dir := ociLayout(t, img, "v1")
	p, err := layout.FromPath(dir)
	if err == nil {
		err = p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v2"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	notImage := save(t, "x.tar", makeTar(t, "a", 10))
	for spec, tc := range map[string]struct {
		kind error
		says string
	}{
		"alpine":              {source.ErrUnsupported, "docker://"},
		"docker:alpine":       {source.ErrUnsupported, "docker://HOST"},
		"ftp://x":             {source.ErrUnsupported, "ftp"},
		"docker://UPPER/case": {source.ErrFormat, "UPPER"},
		"docker://a/b:c@sha256:" + strings.Repeat("0", 64): {source.ErrUnsupported, "both"},
		"oci:" + dir:                 {source.ErrUnsupported, `"v1", "v2"`},
		"oci:" + dir + ":v3":         {source.ErrNotFound, `"v3"`},
		"oci:/nowhere":               {source.ErrNotFound, "/nowhere"},
		"oci-archive:/nowhere":       {source.ErrNotFound, "/nowhere"},
		"docker-archive:" + notImage: {source.ErrNotFound, "docker save"},
	} {
		_, err := source.OpenImage(context.Background(), spec, quick(t))
		if !errors.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), tc.says) {
			t.Errorf("%s: got %v", spec, err)
		}
	}
	if _, err := source.OpenImage(context.Background(), "oci:"+dir, source.Options{Platform: "a/b/c/d/e"}); err == nil {
		t.Error("a platform of five parts accepted")
	}
}
