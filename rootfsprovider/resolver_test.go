package rootfsprovider_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
	"github.com/rootstock-cf/rootstock/rootfsprovider/ociimage"
	"github.com/rootstock-cf/rootstock/rootfsprovider/thintar"
)

var sha = "sha256:" + strings.Repeat("0a", 32)

func TestDockerNames(t *testing.T) {
	for uri, want := range map[string]string{
		"docker:///library/busybox":                  "docker.io/library/busybox@latest",
		"docker:///library/busybox#1.36":             "docker.io/library/busybox@1.36",
		"docker:///library/busybox:1.36":             "docker.io/library/busybox@1.36",
		"docker:///busybox":                          "docker.io/library/busybox@latest",
		"docker:///cloudfoundry/cflinuxfs4":          "docker.io/cloudfoundry/cflinuxfs4@latest",
		"docker://busybox":                           "docker.io/library/busybox@latest",
		"docker://docker.io/busybox:2":               "docker.io/library/busybox@2",
		"docker://registry-1.docker.io/library/x#y":  "docker.io/library/x@y",
		"docker://index.docker.io/a/b":               "docker.io/a/b@latest",
		"docker://ghcr.io/org/app:v1":                "ghcr.io/org/app@v1",
		"docker:///ghcr.io/org/app:v1":               "ghcr.io/org/app@v1",
		"docker://localhost/app":                     "localhost/app@latest",
		"docker://127.0.0.1:5000/repo":               "127.0.0.1:5000/repo@latest",
		"docker://127.0.0.1:5000/repo#tag":           "127.0.0.1:5000/repo@tag",
		"docker://127.0.0.1:5000/repo:tag":           "127.0.0.1:5000/repo@tag",
		"docker://127.0.0.1#5000/repo:tag":           "127.0.0.1:5000/repo@tag", // the first '#' means ':'
		"docker://ghcr.io/org/app@" + sha:            "ghcr.io/org/app@" + sha,
		"docker://ghcr.io/org/app:v1@" + sha:         "ghcr.io/org/app@" + sha,
		"docker:///library/busybox@" + sha:           "docker.io/library/busybox@" + sha,
		"docker://ghcr.io/org/app@sha256#" + sha[7:]: "",
		"docker://":                                     "",
		"docker:///":                                    "",
		"docker://ghcr.io":                              "",
		"docker://ghcr.io/":                             "",
		"docker:///Library/busybox":                     "",
		"docker:///library/../busybox":                  "",
		"docker:///library/busybox:":                    "",
		"docker:///library/busybox@":                    "",
		"docker:///library/busybox@sha256:12":           "",
		"docker:///library/busybox:a/b:c\nd":            "",
		"docker://u:p@ghcr.io/x":                        "",
		"docker:///" + strings.Repeat("a/", 4096) + "a": "",
	} {
		got, err := rootfsprovider.Docker{}.Resolve(t.Context(), uri)
		if want == "" {
			if !errors.Is(err, rootfsprovider.ErrUnsupported) {
				t.Errorf("%.60q: %+v, %v", uri, got.Refs, err)
			}
			continue
		}
		if err != nil || len(got.Refs) != 1 || got.Refs[0].String() != "images/"+want || !got.Image || !got.Foreign {
			t.Errorf("%s: %v, %v, want %s", uri, got.Refs, err, want)
		}
	}
	got, err := rootfsprovider.Docker{"b.example.org", "a.example.org"}.Resolve(t.Context(), "docker:///library/busybox")
	if err != nil || len(got.Refs) != 2 || got.Refs[0].String() != "cvmfs://b.example.org/images/docker.io/library/busybox@latest" {
		t.Errorf("%v, %v", got.Refs, err)
	}
}

func TestPublic(t *testing.T) {
	p := rootfsprovider.Public{"docker.io/library", "ghcr.io/org/app", "quay.io"}
	for name, want := range map[string]bool{
		"docker.io/library/busybox": true, "docker.io/librarything/x": false, "docker.io/bob/library": false,
		"ghcr.io/org/app": true, "ghcr.io/org/app2": false, "ghcr.io/org/app/sub": true, "ghcr.io/org": false,
		"quay.io/any/thing": true, "quay.io.evil.org/x": false,
	} {
		if got := p.Covers(reference.Reference{Kind: reference.Images, Name: name}); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// stackTar writes a thin tar and returns its path.
func stackTar(t testing.TB, name, uri string) string {
	t.Helper()
	ref, err := reference.Parse(uri)
	must(t, err)
	path := filepath.Join(t.TempDir(), name+".tar")
	must(t, thintar.WriteFile(path, thintar.Descriptor{Ref: ref}))
	return path
}

func TestStackPaths(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link.tar")
	must(t, os.Symlink(stackTar(t, "cflinuxfs4", "cvmfs://stacks/rootfs/cflinuxfs4:stable"), link))
	big := filepath.Join(t.TempDir(), "rootfs.tar")
	must(t, os.WriteFile(big, make([]byte, 1<<20), 0o600))
	p := rootfsprovider.Preloaded{
		Paths: map[string]string{"/no/such/file.tar": "cvmfs://stacks/rootfs/mapped"},
		CVMFS: rootfsprovider.CVMFS{"stacks": "stacks.example.org"},
	}
	for path, want := range map[string]string{
		"/no/such/file.tar": "cvmfs://stacks.example.org/rootfs/mapped",
		link:                "cvmfs://stacks.example.org/rootfs/cflinuxfs4:stable",
	} {
		got, err := p.Resolve(t.Context(), path)
		if err != nil || len(got.Refs) != 1 || got.Refs[0].String() != want || got.Image {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
	for path, want := range map[string]error{
		big: rootfsprovider.ErrUnsupported, "relative": rootfsprovider.ErrUnsupported, "": rootfsprovider.ErrUnsupported,
		"/no/such/other.tar": os.ErrNotExist, "/dev/zero": rootfsprovider.ErrUnsupported,
	} {
		if got, err := p.Resolve(t.Context(), path); !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
	base := rootfsprovider.Layouts{Base: p}
	if _, err := base.Resolve(t.Context(), "oci:///no/such/layout"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("layout that is not there: %v", err)
	}
	dir := layout(t, link, nil)
	got, err := base.Resolve(t.Context(), "oci://"+dir)
	if err != nil || got.Refs[0].Name != "cflinuxfs4" || got.Droplet != nil {
		t.Errorf("layout: %+v, %v", got, err)
	}
	got, err = base.Resolve(t.Context(), "oci://"+layout(t, link, &ociimage.Layer{Digest: sha, URLs: []string{"https://h/d"}, Dir: "/home/vcap"}))
	if err != nil || got.Droplet == nil || got.Droplet.Dir != "/home/vcap" || got.Droplet.Digest != sha {
		t.Errorf("layout with a droplet: %+v, %v", got, err)
	}
}
