package ociimage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/rootfsprovider/ociimage"
)

var (
	manifestDigest = "sha256:" + strings.Repeat("aa", 32)
	baseDigest     = "sha256:" + strings.Repeat("bb", 32)
	topDigest      = "sha256:" + strings.Repeat("cc", 32)
)

// layout writes a layout with the given manifest; the base is a link.
func layout(t *testing.T, index, manifest string) string {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs/sha256")
	must(t, errors.Join(
		os.MkdirAll(blobs, 0o755), os.WriteFile(dir+"/index.json", []byte(index), 0o600),
		os.WriteFile(filepath.Join(blobs, manifestDigest[7:]), []byte(manifest), 0o600),
		os.Symlink("/var/vcap/packages/cflinuxfs4/../cflinuxfs4/rootfs.tar", filepath.Join(blobs, baseDigest[7:])),
		os.Symlink("/etc/passwd", filepath.Join(blobs, topDigest[7:])),
	))
	return dir
}

func index(digest string) string { return fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, digest) }

func TestRead(t *testing.T) {
	base := fmt.Sprintf(`{"digest":%q}`, baseDigest)
	top := fmt.Sprintf(`{"digest":%q,"size":7,"urls":["https://b/d?sig=x","http://c/d"],"annotations":{"org.cloudfoundry.experimental.image.base-directory":"/home/vcap"}}`, topDigest)
	stack := "/var/vcap/packages/cflinuxfs4/rootfs.tar"
	for layers, want := range map[string]ociimage.Image{
		base: {Base: stack},
		base + "," + top: {Base: stack, Layer: &ociimage.Layer{
			Digest: topDigest, Size: 7, URLs: []string{"https://b/d?sig=x", "http://c/d"}, Dir: "/home/vcap",
		}},
		base + fmt.Sprintf(`,{"digest":%q,"urls":["https://b/d"]}`, topDigest): {Base: stack, Layer: &ociimage.Layer{
			Digest: topDigest, URLs: []string{"https://b/d"}, Dir: "/",
		}},
	} {
		got, err := ociimage.Read(layout(t, index(manifestDigest), `{"layers":[`+layers+`]}`))
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%v\n%s", err, d)
		}
	}
	for name, tc := range map[string][2]string{
		"no manifest":        {`{}`, ""},
		"two manifests":      {`{"manifests":[{},{}]}`, ""},
		"no JSON":            {`x`, ""},
		"climbing digest":    {index("sha256:../../../../etc/passwd"), ""},
		"manifest is a link": {index(topDigest), ""},
		"no layers":          {index(manifestDigest), `{"layers":[]}`},
		"three layers":       {index(manifestDigest), `{"layers":[{},{},{}]}`},
		"base no link":       {index(manifestDigest), fmt.Sprintf(`{"layers":[{"digest":%q}]}`, manifestDigest)},
		"no urls":            {index(manifestDigest), `{"layers":[` + base + fmt.Sprintf(`,{"digest":%q}]}`, topDigest)},
		"file url":           {index(manifestDigest), `{"layers":[` + base + fmt.Sprintf(`,{"digest":%q,"urls":["file:///etc/shadow"]}]}`, topDigest)},
		"relative directory": {index(manifestDigest), `{"layers":[` + base + `,` + strings.Replace(top, "/home", "home", 1) + `]}`},
		"no digest":          {index(manifestDigest), `{"layers":[` + base + `,` + strings.Replace(top, topDigest, "md5:1", 1) + `]}`},
	} {
		if got, err := ociimage.Read(layout(t, tc[0], tc[1])); err == nil {
			t.Errorf("%s was taken: %+v", name, got)
		}
	}
}
