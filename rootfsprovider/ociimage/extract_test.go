package ociimage_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/rootfsprovider/ociimage"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(uid, gid uint32) (uint32, uint32, bool) { return uid, gid, true }

// archive makes a gzipped tar.
func archive(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range entries {
		text := h.Gname // what the file holds
		h.Gname = ""
		h.Size = int64(len(text))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		must(t, w.WriteHeader(&h))
		_, err := w.Write([]byte(text))
		must(t, err)
	}
	must(t, errors.Join(w.Close(), z.Close()))
	return b.Bytes()
}

func layerOf(text []byte, dir string) *ociimage.Layer {
	sum := sha256.Sum256(text)
	return &ociimage.Layer{Digest: "sha256:" + hex.EncodeToString(sum[:]), Dir: dir}
}

// newRoot is a container's root and a file beside it that nobody may touch.
func newRoot(t *testing.T) (root, outside string) {
	t.Helper()
	dir := t.TempDir()
	root, outside = filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	must(t, errors.Join(os.MkdirAll(root+"/home/vcap", 0o755), os.Mkdir(outside, 0o755), os.WriteFile(outside+"/secret", []byte("host"), 0o600)))
	return root, outside
}

func TestExtract(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: changing owners needs root")
	}
	root, _ := newRoot(t)
	must(t, errors.Join(os.WriteFile(root+"/home/vcap/old", []byte("old"), 0o600), os.MkdirAll(root+"/home/vcap/gone/deep", 0o755),
		os.Symlink("old", root+"/home/vcap/replaced")))
	when := time.Unix(1e9, 0)
	text := archive(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "./app", Typeflag: tar.TypeDir, Mode: 0o755, Uid: 2000, Gid: 2000, ModTime: when},
		tar.Header{
			Name: "./app/start", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 2000, Gid: 2001, Gname: "#!/bin/sh", ModTime: when,
			PAXRecords: map[string]string{"SCHILY.xattr.user.note": "x", "SCHILY.xattr.security.capability": "y"},
		},
		tar.Header{Name: "./app/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", Uid: 2000},
		tar.Header{Name: "./app/again", Typeflag: tar.TypeLink, Linkname: "./app/start"},
		tar.Header{Name: "implied/dir/file", Typeflag: tar.TypeReg, Gname: "x"},
		tar.Header{Name: "old", Typeflag: tar.TypeReg, Gname: "new"},
		tar.Header{Name: "replaced", Typeflag: tar.TypeReg, Gname: "file"},
		tar.Header{Name: ".wh.gone", Typeflag: tar.TypeReg},
	)
	must(t, layerOf(text, "/home/vcap").Extract(t.Context(), bytes.NewReader(text), root, func(u, g uint32) (uint32, uint32, bool) {
		return u + 1, g + 1, u != 666
	}))
	at := root + "/home/vcap/"
	for name, want := range map[string]string{
		"app/start": "#!/bin/sh", "app/again": "#!/bin/sh", "implied/dir/file": "x", "old": "new", "replaced": "file",
	} {
		if got, err := os.ReadFile(at + name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]unix.Stat_t{
		"app":       {Uid: 2001, Gid: 2001, Mode: unix.S_IFDIR | 0o755, Nlink: 2},
		"app/start": {Uid: 2001, Gid: 2002, Mode: unix.S_IFREG | 0o4755, Nlink: 2},
		"app/link":  {Uid: 2001, Gid: 1, Mode: unix.S_IFLNK | 0o777, Nlink: 1},
		"implied":   {Uid: 1, Gid: 1, Mode: unix.S_IFDIR | 0o755, Nlink: 3},
	} {
		var st unix.Stat_t
		must(t, unix.Lstat(at+name, &st))
		if st.Uid != want.Uid || st.Gid != want.Gid || st.Mode != want.Mode || st.Nlink != want.Nlink {
			t.Errorf("%s: %d:%d %o, %d links", name, st.Uid, st.Gid, st.Mode, st.Nlink)
		}
	}
	if st, err := os.Stat(at + "app"); err != nil || !st.ModTime().Equal(when) {
		t.Errorf("app is of %v, %v", st.ModTime(), err)
	}
	if _, err := os.Lstat(at + "gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a whiteout left %v", err)
	}
	if _, err := unix.Getxattr(at+"app/start", "security.capability", make([]byte, 64)); !errors.Is(err, unix.ENODATA) {
		t.Errorf("a droplet brought a capability: %v", err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(root+"/home/vcap", &st))
	if st.Mode&0o777 != 0o755 {
		t.Errorf("the base directory has become %o", st.Mode)
	}
}

// Whatever the layer and the container's tree hold, nothing outside is touched.
func TestHostileLayers(t *testing.T) {
	reg := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Gname: "evil"} }
	for name, entries := range map[string][]tar.Header{
		"climbing":            {reg("../../../outside/secret")},
		"climbing in between": {reg("a/../../../outside/secret")},
		"through a link":      {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../../outside"}, reg("l/secret")},
		"absolute link":       {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/"}, reg("l/secret")},
		"whiteout via a link": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../../outside"}, reg("l/.wh.secret")},
		"hard link out":       {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../../outside/secret"}},
		"hard link via link":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../../outside"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/secret"}},
		"device":              {{Name: "d", Typeflag: tar.TypeBlock, Devmajor: 8}},
		"fifo":                {{Name: "d", Typeflag: tar.TypeFifo}},
		"opaque":              {reg(".wh..wh..opq")},
		"file as directory":   {reg("f"), reg("f/g")},
		"unmapped owner":      {{Name: "f", Typeflag: tar.TypeReg, Uid: 666}},
	} {
		root, outside := newRoot(t)
		text := archive(t, entries...)
		err := layerOf(text, "/home/vcap").Extract(t.Context(), bytes.NewReader(text), root, func(u, g uint32) (uint32, uint32, bool) {
			return u, g, u != 666
		})
		if err == nil {
			t.Errorf("%s was taken", name)
		}
		got, rerr := os.ReadFile(outside + "/secret")
		if all, derr := os.ReadDir(outside); derr != nil || len(all) != 1 || rerr != nil || string(got) != "host" {
			t.Errorf("%s: outside there are %v, %q, %v, %v", name, all, got, rerr, derr)
		}
	}
}

func TestBaseDirectory(t *testing.T) {
	for name, tc := range map[string]struct {
		links map[string]string
		dir   string
		at    string // where the file has to be, "" for an error
	}{
		"plain":          {nil, "/home/vcap", "home/vcap"},
		"root":           {nil, "/", ""},
		"missing":        {nil, "/opt/a/b", "opt/a/b"},
		"dots":           {nil, "/../../home/../home/vcap", "home/vcap"},
		"link inside":    {map[string]string{"way": "/home"}, "/way/vcap", "home/vcap"},
		"link upwards":   {map[string]string{"way": "../../../home"}, "/way/vcap", "home/vcap"},
		"link to itself": {map[string]string{"way": "way"}, "/way", "-"},
		"deep":           {nil, strings.Repeat("/d", 65), "-"},
		"file":           {nil, "/home/file", "-"},
	} {
		root, _ := newRoot(t)
		must(t, os.WriteFile(root+"/home/file", nil, 0o600))
		for from, to := range tc.links {
			must(t, os.Symlink(to, filepath.Join(root, from)))
		}
		text := archive(t, tar.Header{Name: "f", Typeflag: tar.TypeReg})
		err := layerOf(text, tc.dir).Extract(t.Context(), bytes.NewReader(text), root, same)
		if tc.at == "-" {
			if err == nil {
				t.Errorf("%s was taken", name)
			}
			continue
		}
		if _, serr := os.Stat(filepath.Join(root, tc.at, "f")); err != nil || serr != nil {
			t.Errorf("%s: %v, %v", name, err, serr)
		}
	}
}

func TestBrokenLayers(t *testing.T) {
	text := archive(t, tar.Header{Name: "f", Typeflag: tar.TypeReg, Gname: strings.Repeat("x", 1000)})
	l := layerOf(text, "/")
	damaged := bytes.Clone(text)
	damaged[len(damaged)-6] ^= 1 // gzip's checksum
	for name, tc := range map[string]struct {
		text []byte
		want error
	}{
		"truncated": {text[:len(text)/2], nil}, "empty": {nil, nil}, "damaged": {damaged, gzip.ErrChecksum},
		"something behind": {append(bytes.Clone(text), 0), nil}, "another": {archive(t), ociimage.ErrDigest},
	} {
		root, _ := newRoot(t)
		err := l.Extract(t.Context(), bytes.NewReader(tc.text), root, same)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root, _ := newRoot(t)
	if err := l.Extract(ctx, bytes.NewReader(text), root, same); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	// Without compression, too.
	z, err := gzip.NewReader(bytes.NewReader(text))
	must(t, err)
	var plain bytes.Buffer
	_, err = plain.ReadFrom(z)
	must(t, err)
	must(t, layerOf(plain.Bytes(), "/").Extract(t.Context(), &plain, root, same))
}
