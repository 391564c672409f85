package erofs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/erofs"
	"github.com/rootstock-cf/rootstock/object"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: nothing can be mounted, so what the kernel makes of an image is not tested")
	}
}

func mount(t *testing.T, how func(image, target string) (*erofs.Mounted, error), entries []imagemeta.Entry) *erofs.Mounted {
	t.Helper()
	needRoot(t)
	m, err := how(write(t, entries), t.TempDir())
	if errors.Is(err, erofs.ErrUnavailable) {
		t.Skip("this kernel has no EROFS: images are checked by fsck.erofs alone")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// compare checks each entry below root, and that there is nothing else. It
// leaves xattrs to the caller.
func compare(t *testing.T, root string, entries []imagemeta.Entry) {
	t.Helper()
	links := map[uint32]uint64{}
	inodes := map[uint32]uint64{}
	subdirs := map[string]uint64{}
	names := map[string][]string{}
	for _, e := range entries {
		links[e.Link]++
		if e.Path != "" {
			names[e.Parent()] = append(names[e.Parent()], e.Name())
			if e.IsDir() {
				subdirs[e.Parent()]++
			}
		}
	}
	for _, e := range entries {
		path := filepath.Join(root, e.Path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Errorf("%q: %v", e.Path, err)
			continue
		}
		if st.Mode != e.Mode || st.Uid != e.UID || st.Gid != e.GID {
			t.Errorf("%q: mode %o owner %d:%d", e.Path, st.Mode, st.Uid, st.Gid)
		}
		if st.Mtim.Sec != e.MTime || st.Mtim.Nsec != int64(e.Nsec) {
			t.Errorf("%q: time %d.%09d", e.Path, st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch {
		case e.IsDir():
			if st.Nlink != 2+subdirs[e.Path] && st.Nlink != 1 { // an overlay's merged directories say 1
				t.Errorf("%q: %d links", e.Path, st.Nlink)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Error(err)
				continue
			}
			got, err := f.Readdirnames(-1)
			f.Close() //nolint:errcheck
			slices.Sort(got)
			if err != nil || !slices.Equal(got, names[e.Path]) {
				t.Errorf("%q lists %d names, not %d, %v", e.Path, len(got), len(names[e.Path]), err)
			}
			continue
		case e.IsSymlink():
			if target, err := os.Readlink(path); err != nil || target != e.Target {
				t.Errorf("%q: target of %d bytes, %v", e.Path, len(target), err)
			}
		case e.IsRegular():
			if st.Size != e.Size {
				t.Errorf("%q: %d bytes", e.Path, st.Size)
			}
		case e.IsDevice():
			if unix.Major(st.Rdev) != e.Major || unix.Minor(st.Rdev) != e.Minor {
				t.Errorf("%q: device %d:%d", e.Path, unix.Major(st.Rdev), unix.Minor(st.Rdev))
			}
		}
		want := uint64(1)
		if e.Link != 0 {
			want = links[e.Link]
			if inodes[e.Link] == 0 {
				inodes[e.Link] = st.Ino
			}
			if inodes[e.Link] != st.Ino {
				t.Errorf("%q is not the inode of its hard links", e.Path)
			}
		}
		if st.Nlink != want {
			t.Errorf("%q: %d links, want %d", e.Path, st.Nlink, want)
		}
	}
}

// xattrs returns the xattrs of path, links not followed.
func xattrs(t *testing.T, path string) (all []imagemeta.XAttr) {
	t.Helper()
	b := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, b)
	if err != nil {
		t.Fatal(path, err)
	}
	for name := range strings.SplitSeq(string(b[:n]), "\x00") {
		if name == "" {
			continue
		}
		v := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, v)
		if err != nil {
			t.Fatal(path, name, err)
		}
		all = append(all, imagemeta.XAttr{Name: name, Value: v[:n]})
	}
	slices.SortFunc(all, func(a, b imagemeta.XAttr) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func compareXAttrs(t *testing.T, root string, e *imagemeta.Entry, extra ...imagemeta.XAttr) {
	t.Helper()
	want := slices.Concat(e.XAttrs, extra)
	slices.SortFunc(want, func(a, b imagemeta.XAttr) int { return strings.Compare(a.Name, b.Name) })
	got := xattrs(t, filepath.Join(root, e.Path))
	if !slices.EqualFunc(got, want, func(a, b imagemeta.XAttr) bool { return a.Name == b.Name && string(a.Value) == string(b.Value) }) {
		t.Errorf("%q: xattrs %.200q, want %.200q", e.Path, got, want)
	}
}

func TestMount(t *testing.T) {
	for name, how := range map[string]func(image, target string) (*erofs.Mounted, error){
		"probed": erofs.Mount, "loop": erofs.MountLoop,
	} {
		t.Run(name, func(t *testing.T) {
			m := mount(t, how, sample())
			if (m.Loop != "") != (name == "loop") && name == "loop" {
				t.Errorf("mounted through %q", m.Loop)
			}
			compare(t, m.Target, sample())
			for _, e := range sample() {
				var extra []imagemeta.XAttr
				if e.Size > 0 {
					extra = []imagemeta.XAttr{
						{Name: "trusted.overlay.metacopy"},
						{Name: "trusted.overlay.redirect", Value: []byte("/" + e.Content.CachePath())},
					}
				}
				compareXAttrs(t, m.Target, &e, extra...)
			}
			if err := os.WriteFile(filepath.Join(m.Target, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing to the image: %v", err)
			}
		})
	}
}

func TestMountWideDirectory(t *testing.T) {
	entries := wide(20_000)
	m := mount(t, erofs.Mount, entries)
	compare(t, m.Target, entries)
	if _, err := os.Lstat(filepath.Join(m.Target, "d", "name-9999999")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("name that is not there: %v", err)
	}
}

func TestMountCrossings(t *testing.T) {
	m := mount(t, erofs.Mount, crossings())
	compare(t, m.Target, crossings())
}

func TestMountLongPath(t *testing.T) {
	needRoot(t)
	deep := filepath.Join(t.TempDir(), strings.Repeat("a", 200), strings.Repeat("b", 200))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(deep, "image")
	if err := os.Rename(write(t, sample()), image); err != nil {
		t.Fatal(err)
	}
	m, err := erofs.Mount(image, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
}

func TestMountRefuses(t *testing.T) {
	needRoot(t)
	image, target := write(t, sample()), t.TempDir()
	if _, err := erofs.Mount(image+"-", target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing image: %v", err)
	}
	if _, err := erofs.Mount(image, target+"-"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing target: %v", err)
	}
	if _, err := erofs.Mount(image, image); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("target that is a file: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := erofs.Mount(image, link); !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		t.Errorf("target that is a link: %v", err)
	}
	if err := os.WriteFile(image, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, how := range []func(image, target string) (*erofs.Mounted, error){erofs.Mount, erofs.MountLoop} {
		if m, err := how(image, target); err == nil {
			t.Errorf("zeros were mounted as %v", m)
		}
	}
}

// overlay shows the tree as a container would see it.
func overlay(t *testing.T, entries []imagemeta.Entry, contents ...string) (root, upper string) {
	t.Helper()
	lower := mount(t, erofs.Mount, entries).Target
	base := t.TempDir()
	cache := filepath.Join(base, "cache")
	for _, c := range contents {
		path := filepath.Join(cache, object.ContentOf([]byte(c)).CachePath())
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, upper = filepath.Join(base, "root"), filepath.Join(base, "upper")
	for _, d := range []string{root, upper, filepath.Join(base, "work")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The root directory itself is the upper one's.
	if err := os.Chtimes(upper, time.Time{}, time.Unix(entries[0].MTime, int64(entries[0].Nsec))); err != nil {
		t.Fatal(err)
	}
	options := "lowerdir=" + lower + "::" + cache + ",upperdir=" + upper + ",workdir=" + base + "/work,metacopy=on,redirect_dir=on"
	if err := unix.Mount("overlay", root, "overlay", 0, options); errors.Is(err, unix.EINVAL) {
		t.Skipf("this kernel's overlayfs has no data-only layers (%v): redirects are not tested", err)
	} else if err != nil {
		t.Fatal(options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	return root, upper
}

func TestOverlay(t *testing.T) {
	entries := sample()
	data := []string{contentA, contentB, "1", "2", "3", "4", "5"}
	root, upper := overlay(t, entries, data...)
	compare(t, root, entries)
	for _, e := range entries {
		compareXAttrs(t, root, &e)
		if !e.IsRegular() || e.Size > 1<<20 {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, e.Path))
		if err != nil || object.ContentOf(b) != e.Content {
			t.Errorf("%q holds %q, %v", e.Path, b, err)
		}
	}
	if out := run(t, "getcap", filepath.Join(root, "usr/sub/other name")); !strings.Contains(out, "cap_net_raw=ep") {
		t.Errorf("getcap says %q", out)
	}
	if out := run(t, filepath.Join(root, "bin/script")); out != "hello\n" {
		t.Errorf("script says %q", out)
	}
	// No cache, no wrong bytes.
	if _, err := os.ReadFile(filepath.Join(root, "etc/large")); err == nil {
		t.Error("content that is nowhere was read")
	}
	// A change of metadata copies none of the data.
	if err := os.Chmod(filepath.Join(root, "bin/script"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Lgetxattr(filepath.Join(upper, "bin/script"), "trusted.overlay.metacopy", nil); err != nil {
		t.Errorf("chmod copied the data up: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "bin/script")); err != nil || string(b) != contentA {
		t.Errorf("after chmod: %q, %v", b, err)
	}
}
