package flatten_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/publisher/flatten"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// with changes a header made by e.
func with(h *tar.Header, change func(*tar.Header)) *tar.Header {
	if h.PAXRecords == nil {
		h.PAXRecords = map[string]string{}
	}
	change(h)
	return h
}

// corpus is images whose layers hold what is hard to apply.
func corpus() map[string][][]*tar.Header {
	mode := func(spec string, mode int64) *tar.Header {
		return with(e(spec), func(h *tar.Header) { h.Mode = mode })
	}
	return map[string][][]*tar.Header{
		"metadata": {{
			mode("./", 0o751), mode("setuid = x", 0o6755), mode("tmp/", 0o1777),
			with(e("times = 1"), func(h *tar.Header) { h.ModTime = time.Unix(-5, 999_999_999) }),
			with(e("owner = 1"), func(h *tar.Header) { h.Uid, h.Gid = 3_000_000, 4_000_000_000 }),
			with(e("xattrs = 1"), func(h *tar.Header) {
				h.PAXRecords["SCHILY.xattr.user.b"] = "\x00\xff="
				h.PAXRecords["SCHILY.xattr.user.a"] = "2"
				h.PAXRecords["SCHILY.xattr.security.capability"] = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
			}),
			with(e("acl = 1"), func(h *tar.Header) {
				h.PAXRecords["SCHILY.xattr.system.posix_acl_access"] = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
			}),
			{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
			{Name: "disk", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 8, Devminor: 1},
			{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o622},
			e(strings.Repeat("n", 255) + " = 1"), e("\xff\xfe\x01 = 1"), e("up -> ../../../x"), e("abs -> /x"), e("empty"),
		}},
		"links": {
			{e("a = 1"), e("d/"), e("d/b => a"), e("s -> a"), e("s2 => s"), e("gone = 1"), e("kept => gone"), e("old = 1"), e("same => old")},
			{e("c => d/b"), e("a = 2"), e(".wh.gone"), e("old = new")},
			{e("e => c"), e("f/"), e("f/g => kept")},
		},
		"whiteouts": {
			{e("a = 1"), e("d/"), e("d/x = 1"), e("d/s/"), e("d/s/y = 1"), e("o/"), e("o/x = 1"), e("o/s/"), e("o/s/y = 1"), e("k = 1")},
			{e(".wh.a"), e("d/"), e("d/.wh.x"), e("d/z = 2"), e("o/"), e("o/.wh..wh..opq"), e("o/n = 3")},
			{e("a/"), e("a/b = 4"), e("o/"), e("o/late = 5"), e("o/.wh..wh..opq"), e(".wh.nothing")},
		},
		"replacing": {
			{e("d/"), e("d/x = 1"), e("f = 1"), e("l -> d"), e("dd/"), e("dd/y = 1"), e("p = 1")},
			{e("d = 2"), e("f/"), e("f/x = 2"), mode("dd/", 0o700), e("p -> f")},
			{e("d/"), e("d/z = 3"), e("f/"), e("f/w = 3")},
		},
		"there and back": {
			{e("d/"), e("d/x = 1"), e("l -> d"), e("f = 1"), e("h => f"), e("s/"), e("s/deep/"), e("s/deep/x = 1")},
			{e("d -> f"), e("l/"), e("l/in = 2"), e("f -> h"), e("s = 2")},
			{e("d/"), e("d/y = 3"), e("l -> d"), e("f = 3"), e("s/"), e("s/deep = 3")},
			{e("f/"), e("f/g => h"), e("d = 4"), e("s/deep/"), e(".wh.l")},
		},
		"links across": {
			{e("a/"), e("b/"), e("a/f = 1"), e("a/s -> f"), e("b/s => a/s"), e("up -> ../../../../a"), e("b/fifo"), with(e("a/p"), func(h *tar.Header) { h.Typeflag, h.Mode = tar.TypeFifo, 0o600 })},
			{e("b/f => a/f"), e("c/"), e("c/s => b/s"), e("c/p => a/p"), e("up/through = 2")},
			{e("a/.wh.f"), e("a/.wh.p"), e("c/f => b/f"), e("c/f2 => c/f"), e("b/s = now a file")},
			{e("a/f => c/f2"), mode("c/f = 4", 0o4711)},
		},
		"usrmerge": {
			{e("usr/"), e("usr/lib/"), e("usr/lib/a = 1"), e("lib -> usr/lib"), e("abs -> /usr"), e("up -> ../../usr")},
			{e("lib/b = 2"), e("abs/c = 3"), e("up/d = 4"), e("lib/.wh.a")},
		},
		"duplicates": {{e("a = 1"), e("a = 2"), e("d/"), e("d/x = 1"), mode("d/", 0o700), e("b = 1"), e("b -> a"), e("c -> a"), e("c = 3")}},
	}
}

// umoci applies an image as rootful umoci does and returns its rootfs.
func umoci(t *testing.T, layers []*blob) (rootfs, dir string) {
	t.Helper()
	if _, err := exec.LookPath("umoci"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and umoci (apt-get install umoci): nothing compared")
	}
	var img v1.Image = mutate.MediaType(empty.Image, "application/vnd.oci.image.manifest.v1+json")
	img = mutate.ConfigMediaType(img, "application/vnd.oci.image.config.v1+json")
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range layers {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return b.Open(context.Background()) },
			tarball.WithMediaType("application/vnd.oci.image.layer.v1.tar+gzip"))
		if err == nil {
			img, err = mutate.AppendLayers(img, l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	dir = filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "x"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(t.TempDir(), "bundle")
	if out, err := exec.Command("umoci", "unpack", "--image", dir+":x", bundle).CombinedOutput(); err != nil { // #nosec G204
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	return filepath.Join(bundle, "rootfs"), dir
}

// TestAsUmoci applies a corpus of layers by both and compares every entry:
// type, mode, owner, time, size, content, target, device, xattrs and links.
// Nothing differs.
func TestAsUmoci(t *testing.T) {
	for name, image := range corpus() {
		t.Run(name, func(t *testing.T) {
			var layers []*blob
			for _, hs := range image {
				layers = append(layers, pack(t, hs...))
			}
			rootfs, dir := umoci(t, layers)
			s, err := source.OpenImage(context.Background(), "oci:"+dir, source.Options{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close() //nolint:errcheck // a layout holds nothing
			in := sink{}
			tree, err := flatten.Flatten(context.Background(), s.Layers, in, flatten.Options{})
			if err != nil {
				t.Fatal(err)
			}
			checkTree(t, tree, in)
			compare(t, tree, in, walk(t, rootfs))
		})
	}
}

// compare compares a tree with what walk found, every entry in every respect.
func compare(t *testing.T, tree *flatten.Tree, in sink, theirs map[string]string) {
	t.Helper()
	ours := described(tree, in)
	for p := range theirs {
		if ours[p] == "" {
			t.Errorf("%q: only on disk: %.300s", p, theirs[p])
		}
	}
	for p, have := range ours {
		if want := theirs[p]; have != want {
			t.Errorf("%q:\nours    %.300s\non disk %.300s", p, have, want)
		}
	}
}

// described is a tree as walk describes a directory.
func described(tree *flatten.Tree, in sink) map[string]string {
	ours, first := map[string]string{}, map[uint32]string{}
	for _, x := range tree.Entries() {
		if x.Link != 0 && first[x.Link] == "" {
			first[x.Link] = x.Path
		}
		ours[x.Path] = describe(x, in[x.Content], first[x.Link])
	}
	return ours
}

func describe(x imagemeta.Entry, text, first string) string {
	var attrs []string
	for _, a := range x.XAttrs {
		attrs = append(attrs, fmt.Sprintf("%s=%x", a.Name, a.Value))
	}
	return fmt.Sprintf("mode %o owner %d:%d time %d.%09d size %d %q -> %q dev %d:%d xattrs %s link %q",
		x.Mode, x.UID, x.GID, x.MTime, x.Nsec, x.Size, text, x.Target, x.Major, x.Minor, strings.Join(attrs, ","), first)
}

// walk describes a directory on disk as describe does.
func walk(t *testing.T, root string) map[string]string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		paths = append(paths, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]string{}
	first := map[uint64]string{}
	rel := func(p string) string { return strings.TrimPrefix(strings.TrimPrefix(p, root), "/") }
	sort.Slice(paths, func(i, j int) bool { return sortKey(rel(paths[i])) < sortKey(rel(paths[j])) })
	for _, p := range paths {
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			t.Fatal(err)
		}
		x := imagemeta.Entry{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec), XAttrs: xattrs(t, p)}
		text, link := "", ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			x.Size, text = st.Size, string(b)
		case unix.S_IFLNK:
			if x.Target, err = os.Readlink(p); err != nil {
				t.Fatal(err)
			}
		case unix.S_IFBLK, unix.S_IFCHR:
			x.Major, x.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if first[st.Ino] == "" {
				first[st.Ino] = rel(p)
			}
			link = first[st.Ino]
		}
		entries[rel(p)] = describe(x, text, link)
	}
	return entries
}

func xattrs(t *testing.T, p string) []imagemeta.XAttr {
	t.Helper()
	buf := make([]byte, 65536)
	n, err := unix.Llistxattr(p, buf)
	if err != nil {
		t.Fatal(err)
	}
	var list []imagemeta.XAttr
	for _, name := range bytes.Split(buf[:n], []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value := make([]byte, 65536)
		m, err := unix.Lgetxattr(p, string(name), value)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, imagemeta.XAttr{Name: string(name), Value: value[:m]})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}
