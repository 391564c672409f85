package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/rootstock-cf/rootstock/internal/testregistry"
	"github.com/rootstock-cf/rootstock/publisher/seen"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// lonely keeps a test from whoever's logins there are.
func lonely(t *testing.T) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", "/nowhere")
}

func push(t *testing.T, layout, to string) {
	t.Helper()
	tool(t, "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", layout, "docker://"+to)
}

// A broken download goes on where it broke, at a registry that knows ranges.
func TestResumesWhereItBroke(t *testing.T) {
	lonely(t)
	front := testregistry.NewFront(t, testregistry.Start(t, ""))
	img, tars := image(t)
	push(t, "oci:"+ociLayout(t, img, "v1"), front.Host+"/app:1")
	d, whole := lowest(t, img), layerBytes(t, img)
	half := len(whole) / 2
	var broke atomic.Bool
	front.Taken()
	front.Fault(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, d.Digest.String()) || broke.Swap(true) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
		w.Write(whole[:half]) //nolint:errcheck // the client sees it
		panic(http.ErrAbortHandler)
	})
	o := quick(t)
	o.PlainHTTP = []string{front.Host}
	checkImage(t, "docker://"+front.Host+"/app:1", o, tars)
	again := fmt.Sprintf("GET /v2/app/blobs/%s bytes=%d-%d", d.Digest, half, len(whole)-1)
	var about []string
	for _, r := range front.Taken() {
		if strings.Contains(r, d.Digest.String()) {
			about = append(about, r)
		}
	}
	if len(about) != 2 || about[1] != again {
		t.Errorf("asked %q, want %q second", about, again)
	}
}

// A busy registry is asked again.
func TestTooManyRequests(t *testing.T) {
	lonely(t)
	front := testregistry.NewFront(t, testregistry.Start(t, ""))
	img, tars := image(t)
	push(t, "oci:"+ociLayout(t, img, "v1"), front.Host+"/app:1")
	var asked atomic.Int32
	front.Fault(func(w http.ResponseWriter, r *http.Request) bool {
		if asked.Add(1)%2 == 0 {
			return false
		}
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	o := quick(t)
	o.PlainHTTP = []string{front.Host}
	checkImage(t, "docker://"+front.Host+"/app:1", o, tars)
}

func TestMirror(t *testing.T) {
	lonely(t)
	own := testregistry.NewFront(t, testregistry.Start(t, testregistry.Users(t, "ann", "secret")))
	mirror := testregistry.NewFront(t, testregistry.Start(t, ""))
	img, tars := image(t)
	from := "oci:" + ociLayout(t, img, "v1")
	push(t, from, mirror.Host+"/cache/team/app:1")
	tool(t, "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", "ann:secret", from, "docker://"+own.Host+"/team/app:1")
	tool(t, "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", "ann:secret", from, "docker://"+own.Host+"/team/app:2")
	m, err := source.ParseMirror(own.Host + "=" + mirror.Host + "/cache/")
	if err != nil || m != (source.Mirror{Of: own.Host, Host: mirror.Host, Prefix: "cache"}) {
		t.Fatalf("%+v, %v", m, err)
	}
	options := func() source.Options {
		o := quick(t)
		o.PlainHTTP, o.Mirrors = []string{own.Host, mirror.Host}, []source.Mirror{{Of: "other.example", Host: "127.0.0.1:1"}, m}
		o.Username, o.Password = "ann", "secret"
		return o
	}
	taken := func() { own.Taken(); mirror.Taken() }

	t.Run("has it", func(t *testing.T) {
		taken()
		mirror.Fault(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") != "" {
				t.Error("the registry's credentials went to the mirror")
			}
			return false
		})
		defer mirror.Fault(nil)
		s := checkImage(t, "docker://"+own.Host+"/team/app:1", options(), tars)
		if asked := own.Taken(); len(asked) > 0 || s.Registry != own.Host || s.Repository != "team/app" {
			t.Errorf("named %s/%s, asked the registry itself %q", s.Registry, s.Repository, asked)
		}
	})
	t.Run("has it not", func(t *testing.T) {
		checkImage(t, "docker://"+own.Host+"/team/app:2", options(), tars)
		if len(own.Taken()) == 0 {
			t.Error("the registry was not asked")
		}
	})
	t.Run("dies within a layer", func(t *testing.T) {
		d, whole := lowest(t, img), layerBytes(t, img)
		var broke atomic.Bool
		mirror.Fault(func(w http.ResponseWriter, r *http.Request) bool {
			if broke.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			if !strings.Contains(r.URL.Path, d.Digest.String()) {
				return false
			}
			broke.Store(true)
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
			w.Write(whole[:len(whole)/2]) //nolint:errcheck // the client sees it
			panic(http.ErrAbortHandler)
		})
		defer mirror.Fault(nil)
		taken()
		checkImage(t, "docker://"+own.Host+"/team/app:1", options(), tars)
		want := fmt.Sprintf("GET /v2/team/app/blobs/%s bytes=%d-%d", d.Digest, len(whole)/2, len(whole)-1)
		if asked := own.Taken(); !slices.Contains(asked, want) {
			t.Errorf("asked %q, want %q", asked, want)
		}
	})
	t.Run("lies", func(t *testing.T) {
		d := lowest(t, img)
		mirror.Fault(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, d.Digest.String()) {
				return false
			}
			w.Write(flipped(layerBytes(t, img))) //nolint:errcheck // the client sees it
			return true
		})
		defer mirror.Fault(nil)
		s, err := source.OpenImage(context.Background(), "docker://"+own.Host+"/team/app:1", options())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close() //nolint:errcheck // removes temporary files
		if _, err := readLayer(s.Layers[0]); !errors.Is(err, source.ErrDigest) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("neither has it", func(t *testing.T) {
		_, err := source.OpenImage(context.Background(), "docker://"+own.Host+"/team/none:1", options())
		if !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), mirror.Host) || !strings.Contains(err.Error(), own.Host) {
			t.Errorf("got %v", err)
		}
	})
	for _, bad := range []string{"", "=x", "a=", "http://x", "a b/c"} {
		if _, err := source.ParseMirror(bad); !errors.Is(err, source.ErrFormat) {
			t.Errorf("mirror %q: %v", bad, err)
		}
	}
}

// What was read once is told by its manifest alone.
func TestConfigIsRemembered(t *testing.T) {
	lonely(t)
	for _, users := range []string{"", testregistry.Users(t, "ann", "secret")} {
		front := testregistry.NewFront(t, testregistry.Start(t, users))
		img, _ := image(t)
		args := []string{"skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"}
		if users != "" {
			args = append(args, "--dest-creds", "ann:secret")
		}
		tool(t, append(args, "oci:"+ociLayout(t, img, "v1"), "docker://"+front.Host+"/app:1")...)
		o := quick(t)
		o.PlainHTTP, o.Seen = []string{front.Host}, seen.Open(t.TempDir(), seen.Options{})
		if users != "" {
			o.Username, o.Password = "ann", "secret"
		}
		var first []byte
		for try := range 2 {
			front.Taken()
			s, err := source.OpenImage(context.Background(), "docker://"+front.Host+"/app:1", o)
			if err != nil {
				t.Fatal(err)
			}
			asked := front.Taken()
			if try == 0 {
				first = s.Config
			} else if !slices.Equal(asked, []string{"GET /v2/app/manifests/1"}) || !bytes.Equal(s.Config, first) {
				t.Errorf("the second time asked %q", asked)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// index is an image for two platforms, and an attestation.
func index(t *testing.T) v1.ImageIndex {
	t.Helper()
	all := mutate.IndexMediaType(empty.Index, "application/vnd.oci.image.index.v1+json")
	for _, p := range []*v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "unknown", Architecture: "unknown"}} {
		img, _ := image(t)
		c, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c = c.DeepCopy()
		c.OS, c.Architecture, c.Variant = p.OS, p.Architecture, p.Variant
		if img, err = mutate.ConfigFile(img, c); err != nil {
			t.Fatal(err)
		}
		all = mutate.AppendManifests(all, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p}})
	}
	return all
}

func TestAllPlatforms(t *testing.T) {
	lonely(t)
	host := testregistry.Start(t, "")
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendIndex(index(t), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	tool(t, "skopeo", "--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false", "oci:"+dir+":v1", "docker://"+host+"/app:1")
	one, _ := image(t)
	push(t, "oci:"+ociLayout(t, one, "v1"), host+"/app:one")
	tarred := t.TempDir() + "/x.tar"
	tool(t, "tar", "-C", dir, "-cf", tarred, ".")
	for spec, want := range map[string][]string{
		"docker://" + host + "/app:1":   {"linux/amd64", "linux/arm64/v8"},
		"docker://" + host + "/app:one": {"linux/amd64"},
		"oci:" + dir + ":v1":            {"linux/amd64", "linux/arm64/v8"},
		"oci:" + tarred + ":v1":         {"linux/amd64", "linux/arm64/v8"},
	} {
		o := quick(t)
		o.PlainHTTP = []string{host}
		got, err := source.Platforms(context.Background(), spec, o)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", spec, got, err)
		}
		for _, o.Platform = range got {
			s, err := source.OpenImage(context.Background(), spec, o)
			if err != nil {
				t.Errorf("%s for %s: %v", spec, o.Platform, err)
				continue
			}
			if _, err := readLayer(s.Layers[0]); err != nil {
				t.Error(err)
			}
			s.Close() //nolint:errcheck,gosec // removes temporary files
		}
		noLeftovers(t, o)
	}
}

// Of an archive of several images the tag behind the colon chooses.
func TestArchiveOfSeveral(t *testing.T) {
	one, tars := image(t)
	c, err := one.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.Config.User = "another"
	two, err := mutate.ConfigFile(one, c)
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/x.tar"
	tool(t, "skopeo", "--insecure-policy", "copy", "-q", "oci:"+ociLayout(t, one, "v1"), "docker-archive:"+file+":r.example/app:1",
		"--additional-tag", "r.example/app:also")
	several := saveImages(t, map[string]v1.Image{"r.example/app:1": one, "r.example/app:2": two})
	for _, tag := range []string{"1", "also"} {
		if s := checkImage(t, "docker-archive:"+file+":r.example/app:"+tag, quick(t), tars); s.Tag != tag {
			t.Errorf("tag %q", s.Tag)
		}
	}
	a := checkImage(t, "docker-archive:"+several+":r.example/app:1", quick(t), tars)
	b := checkImage(t, "docker-archive:"+several+":r.example/app:2", quick(t), tars)
	if a.ConfigDigest == b.ConfigDigest || !bytes.Contains(b.Config, []byte("another")) {
		t.Error("the wrong one of two")
	}
	for ref, kind := range map[string]error{"": source.ErrUnsupported, ":r.example/app:3": source.ErrNotFound} {
		if _, err := source.OpenImage(context.Background(), "docker-archive:"+several+ref, quick(t)); !errors.Is(err, kind) || !strings.Contains(err.Error(), "r.example/app:2") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

// saveImages writes what docker save does.
func saveImages(t *testing.T, images map[string]v1.Image) string {
	t.Helper()
	refs := map[name.Tag]v1.Image{}
	for text, img := range images {
		tag, err := name.NewTag(text)
		if err != nil {
			t.Fatal(err)
		}
		refs[tag] = img
	}
	file := t.TempDir() + "/several.tar"
	if err := tarball.MultiWriteToFile(file, refs); err != nil {
		t.Fatal(err)
	}
	return file
}
