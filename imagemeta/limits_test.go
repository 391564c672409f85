package imagemeta_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/imagemeta"
)

func TestCheckLimits(t *testing.T) {
	with := func(name string, size int) imagemeta.Entry {
		e := file("dir/file", "x")
		e.XAttrs = []imagemeta.XAttr{{Name: name, Value: make([]byte, size)}}
		return e
	}
	large := func(size int64) imagemeta.Entry {
		e := file("large", "x")
		e.Size = size
		return e
	}
	full := with("user.0", 65535)
	for _, name := range []string{"user.1", "user.2", "user.3"} {
		full.XAttrs = append(full.XAttrs, imagemeta.XAttr{Name: name, Value: make([]byte, 65535)})
	}
	device := func(mode, minor uint32) imagemeta.Entry {
		return imagemeta.Entry{Path: "device", Mode: mode, Minor: minor}
	}
	for _, tc := range []struct {
		name string
		e    imagemeta.Entry
		want error
	}{
		{"root", dir("", 0o755), nil},
		{"file", file("a/b/c", "x"), nil},
		{"white-out name", file("a/.wh.b", "x"), nil},
		{"opaque name", file("a/.wh..wh..opq", ""), nil},
		{"longest name", file(strings.Repeat("n", 255), ""), nil},
		{"name", file(strings.Repeat("n", 256), ""), imagemeta.ErrInvalid},
		{"name of a directory", file(strings.Repeat("n", 256)+"/a", ""), imagemeta.ErrInvalid},
		{"dot dot", file("a/../b", ""), imagemeta.ErrInvalid},
		{"absolute", file("/a", ""), imagemeta.ErrInvalid},
		{"trailing slash", file("a/", ""), imagemeta.ErrInvalid},
		{"path", file(strings.Repeat("d/", 2048)+"e", ""), imagemeta.ErrInvalid},
		{"longest target", imagemeta.Entry{Path: "l", Mode: 0o120777, Target: strings.Repeat("t", 4095)}, nil},
		{"target", imagemeta.Entry{Path: "l", Mode: 0o120777, Target: strings.Repeat("t", 4096)}, imagemeta.ErrInvalid},
		{"marker", file("a/.cvmfscatalog", ""), imagemeta.ErrUnsupported},
		{"5 TiB", large(5 << 40), nil},
		{"largest file", large(imagemeta.MaxFileSize), nil},
		{"file size", large(imagemeta.MaxFileSize + 1), imagemeta.ErrUnsupported},
		{"char 0:0", device(0o020666, 0), imagemeta.ErrUnsupported},
		{"char 0:1", device(0o020666, 1), nil},
		{"block 0:0", device(0o060666, 0), nil},
		{"user", with("user.a", 65535), nil},
		{"trusted", with("trusted.a", 1), nil},
		{"security", with("security.capability", 20), nil},
		{"acl", with("system.posix_acl_access", 28), nil},
		{"default acl", with("system.posix_acl_default", 28), nil},
		{"system", with("system.nfs4_acl", 28), imagemeta.ErrUnsupported},
		{"no namespace", with("a", 28), imagemeta.ErrUnsupported},
		{"nothing in a namespace", with("user.", 28), imagemeta.ErrUnsupported},
		{"redirect", with("trusted.overlay.redirect", 10), imagemeta.ErrUnsupported},
		{"escaped", with("trusted.overlay.overlay.opaque", 1), imagemeta.ErrUnsupported},
		{"user.overlay", with("user.overlay.opaque", 1), nil},
		{"xattr value", with("user.a", 65536), imagemeta.ErrInvalid},
		{"xattr name", with("user."+strings.Repeat("n", 251), 1), imagemeta.ErrInvalid},
		{"xattrs in all", full, imagemeta.ErrUnsupported},
	} {
		if err := imagemeta.CheckLimits(&tc.e); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}
