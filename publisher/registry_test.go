package publisher_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootstock-cf/rootstock/internal/testregistry"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// pushed copies an image of these layers, each a tar of files, to a registry
// and returns the digests of its layers.
func pushed(t *testing.T, to, creds string, layers ...[]string) (digests []string) {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, files := range layers {
		var err error
		if img, err = mutate.AppendLayers(img, static.NewLayer(tarOf(t, files...), types.OCIUncompressedLayer)); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--insecure-policy", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", "oci:" + dir, "docker://" + to}
	if creds != "" {
		args = append(args, "--dest-creds", creds)
	}
	if out, err := exec.Command("skopeo", args...).CombinedOutput(); err != nil { // #nosec G204
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	var m *v1.Manifest
	if m, err = img.Manifest(); err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Layers {
		digests = append(digests, l.Digest.String())
	}
	return digests
}

// An image costs what is new in it: the same again its manifest, one that
// shares layers those it does not share, even where the layers that are not
// shared hid what now shows.
func TestLayersAreFetchedOnce(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", "/nowhere")
	for name, password := range map[string]string{"open": "", "with login": "secret"} {
		t.Run(name, func(t *testing.T) {
			users, creds := "", ""
			if password != "" {
				users, creds = testregistry.Users(t, "ann", password), "ann:"+password
			}
			front := testregistry.NewFront(t, testregistry.Start(t, users))
			base := []string{"etc/passwd=root", "var/lib/dpkg/status=base", "bin/sh=#!"}
			a := pushed(t, front.Host+"/a:1", creds, base, []string{"var/lib/dpkg/status=base and a", "app=a"})
			b := pushed(t, front.Host+"/b:1", creds, base, []string{"etc/passwd=root, b", "app=b"})
			s := newSite(t)
			s.remembering()
			publish := func(s *site, image string) (tree string, fetched []string) {
				t.Helper()
				front.Taken()
				o := source.Options{PlainHTTP: []string{front.Host}, Seen: s.o.Seen, TempDir: t.TempDir()}
				if password != "" {
					o.Username, o.Password = "ann", password
				}
				src, err := source.OpenImage(t.Context(), "docker://"+front.Host+"/"+image, o)
				s.must(err)
				tree = s.mustPublish("images/r.example.org/"+strings.Replace(image, ":", "@", 1), src).Tree
				for _, r := range front.Taken() {
					if at := strings.Index(r, "sha256:"); at >= 0 {
						fetched = append(fetched, r[at:])
					}
				}
				return tree, fetched
			}
			_, fetched := publish(s, "a:1")
			if !slices.Contains(fetched, a[0]) || !slices.Contains(fetched, a[1]) {
				t.Fatalf("fetched %q for the first image of layers %q", fetched, a)
			}
			if _, fetched = publish(s, "a:1"); len(fetched) > 0 {
				t.Errorf("fetched %q for the image that is there", fetched)
			}
			tree, fetched := publish(s, "b:1")
			if slices.Contains(fetched, b[0]) || !slices.Contains(fetched, b[1]) {
				t.Errorf("fetched %q for an image of layers %q, of which the first was known", fetched, b)
			}
			fresh := newSite(t)
			if plain, _ := publish(fresh, "b:1"); plain != tree {
				t.Errorf("tree %s, without what was known %s", tree, plain)
			}
			// Its tag removed, the tree is made again of what is known.
			_, err := s.open().Remove(t.Context(), ref(t, "images/r.example.org/b@1"))
			s.must(err)
			if again, fetched := publish(s, "b:1"); again != tree || len(fetched) > 0 {
				t.Errorf("published after it was removed: tree %s, fetched %q", again, fetched)
			}
		})
	}
}
