package cli_test

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootstock-cf/rootstock/cmd/internal/cli"
)

// An image is fetched again by the digest that was signed, whatever its tag
// means by now, for the platform it was published for; without its registry the
// way out is named.
func TestVerifyImage(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", "/nowhere")
	dir, site := newSite(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	push := func(tag, content string) {
		t.Helper()
		img, err := mutate.AppendLayers(empty.Image, static.NewLayer(tarOf(t, []byte(content)), types.OCIUncompressedLayer))
		if err != nil {
			t.Fatal(err)
		}
		c, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c.OS, c.Architecture, c.Variant = "linux", "arm64", "v8"
		if img, err = mutate.ConfigFile(img, c); err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(host+"/app:"+tag, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: c.Platform()}})
		if err := remote.WriteIndex(ref, index); err != nil {
			t.Fatal(err)
		}
	}
	push("1", "one")
	image := []string{"--plain-http", host, "--retries", "-1"}
	run(t, cli.NewRootstock(), append(append([]string{
		"publish", "image", "docker://" + host + "/app:1", "--attest", "--cache", "", "--platform", "linux/arm64/v8", "--as", "r.example.org/team/app:1",
	}, site...), image...)...)
	push("1", "another")
	verify := func(more ...string) (code int, out string) {
		t.Helper()
		var b bytes.Buffer
		root := cli.NewRootstock()
		root.SetOut(&b)
		root.SetErr(&b)
		code = cli.Run(root, append([]string{
			"verify", "images/r.example.org/team/app@1", site[0], site[1], "--key", filepath.Join(dir, "keys", "t.example.org.crt"),
		}, more...))
		return code, b.String()
	}
	if code, out := verify(image...); code != 0 || !strings.Contains(out, "derived here from docker://"+host+"/app@sha256:") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if code, out := verify("--quiet", image[0], image[1]); code != 0 || out != "" {
		t.Errorf("quiet: exit code %d: %s", code, out)
	}
	if code, out := verify(append(image, "--source", "docker://"+host+"/app:1")...); code != 1 || !strings.Contains(out, "not what is published") {
		t.Errorf("the tag has moved: exit code %d: %s", code, out)
	}
	server.Close()
	if code, out := verify(image...); code != 1 || !strings.Contains(out, "could not be derived again") || !strings.Contains(out, "--no-source") {
		t.Errorf("without the registry: exit code %d: %s", code, out)
	}
	if code, out := verify("--no-source"); code != 0 || !strings.Contains(out, "verified: 1 signers") {
		t.Errorf("without the source: exit code %d: %s", code, out)
	}
}
