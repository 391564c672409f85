package flatten_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/publisher/flatten"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// odd makes a directory of everything a directory can hold, and returns the
// names of its sockets.
func odd(t *testing.T, root string) []string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root, to make devices and attributes")
	}
	do := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(root, name) }
	write := func(name, text string) { t.Helper(); do(os.WriteFile(in(name), []byte(text), 0o644)) }
	for _, d := range []string{"a", "a/deep/er", "b", ".wh.dir", "closed"} {
		do(os.MkdirAll(in(d), 0o755))
	}
	write("a/file", "text")
	write("empty", "")
	write(".wh.gone", "a name like any other")
	write("b/.wh..wh..opq", "")
	write(".wh.dir/x", "1")
	write("gone", "still here")
	write(strings.Repeat("n", 255), "long")
	write("\xff\xfe\x01\n", "no text")
	write("setuid", "x")
	write("capable", "x")
	write("shared", "one inode")
	do(os.Link(in("shared"), in("a/deep/er/also")), os.Link(in("shared"), in("b/again")))
	do(os.Symlink("../../../up", in("climbs")), os.Symlink("/etc/passwd", in("absolute")), os.Symlink(strings.Repeat("t", 4095), in("b/far")))
	do(os.Link(in("climbs"), in("b/samelink")))
	do(unix.Mkfifo(in("pipe"), 0o622), unix.Mknod(in("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Mknod(in("b/disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))), unix.Mknod(in("b/socket"), unix.S_IFSOCK|0o755, 0))
	do(unix.Chown(in("setuid"), 3_000_000, 4_000_000_000), unix.Chmod(in("setuid"), 0o6755), unix.Chmod(in("a"), 0o1777), unix.Chmod(in("closed"), 0))
	do(unix.Lchown(in("absolute"), 7, 8))
	sparse, err := os.Create(in("sparse"))
	do(err)
	_, err = sparse.WriteAt([]byte("end"), 1<<20)
	do(err, sparse.Close())
	set := func(name, attr, value string) { t.Helper(); do(unix.Lsetxattr(in(name), attr, []byte(value), 0)) }
	set("a", "user.dir", "on a directory")
	set("capable", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	set("capable", "user.empty", "")
	set("capable", "user.big", strings.Repeat("\x00b", 700))
	set("a/file", "system.posix_acl_access", "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff")
	set("absolute", "trusted.link", "on a symbolic link")
	set("null", "trusted.device", "on a device")
	for name, at := range map[string]unix.Timespec{"a/file": {Sec: -5, Nsec: 999_999_999}, "climbs": {Sec: 1, Nsec: 1}, "b": {Sec: 1 << 33}, ".": {Sec: 12, Nsec: 34}} {
		do(unix.UtimesNanoAt(unix.AT_FDCWD, in(name), []unix.Timespec{{}, at}, unix.AT_SYMLINK_NOFOLLOW))
	}
	return []string{"b/socket"}
}

func flattenDir(t *testing.T, root string) (*flatten.Tree, sink, error) {
	t.Helper()
	s, err := source.OpenDir(context.Background(), root, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a directory holds nothing open
	in := sink{}
	tree, err := flatten.Flatten(context.Background(), s.Layers, in, flatten.Options{Plain: true})
	return tree, in, err
}

// A directory's tree is what the directory is, entry by entry.
func TestDirAsItIs(t *testing.T) {
	root := t.TempDir()
	sockets := odd(t, root)
	tree, in, err := flattenDir(t, root)
	if err != nil {
		t.Fatal(err)
	}
	checkTree(t, tree, in)
	want := walk(t, root)
	for _, s := range sockets {
		delete(want, s)
	}
	compare(t, tree, in, want)
	if len(want) < 25 {
		t.Errorf("only %d entries", len(want))
	}
	if len(tree.Notes) != 1 || tree.Notes[0].Path != sockets[0] || !strings.Contains(tree.Notes[0].Text, "socket") {
		t.Errorf("notes: %v", tree.Notes)
	}
}

// What an overlay would obey is refused with the reason, whatever brings it.
func TestDirRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		make func(string) error
		text string
	}{
		"overlay attribute": {func(d string) error {
			return errors.Join(os.WriteFile(d+"/f", nil, 0o644), unix.Setxattr(d+"/f", "trusted.overlay.redirect", []byte("/x"), 0))
		}, "trusted.overlay.redirect would steer the overlay"},
		"overlay whiteout": {func(d string) error { return unix.Mknod(d+"/w", unix.S_IFCHR, 0) }, "0:0 hides the name"},
		"a catalog's mark": {func(d string) error { return os.WriteFile(d+"/.cvmfscatalog", nil, 0o644) }, "CernVM-FS marks"},
		"a mount": {func(d string) error {
			return errors.Join(os.Mkdir(d+"/m", 0o755), unix.Mount("none", d+"/m", "tmpfs", 0, ""))
		}, `"m": unsupported: another file system is mounted there`},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("SKIPPED: needs root")
			}
			root := t.TempDir()
			t.Cleanup(func() { unix.Unmount(root+"/m", unix.MNT_DETACH) })
			if err := c.make(root); err != nil {
				t.Fatal(err)
			}
			if _, _, err := flattenDir(t, root); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

// In a tar that is no image's layer, .wh. names are names.
func TestPlain(t *testing.T) {
	layer := pack(t, e("d/"), e("d/x = 1"), e("d/.wh.x = 2"), e("d/.wh..wh..opq = 3"), e(".wh..wh.plnk/"), e(".wh..wh.plnk/1 = 4"), e(".wh. = 5"), e("h => d/.wh.x"))
	in := sink{}
	tree, err := flatten.Flatten(context.Background(), []*blob{layer}, in, flatten.Options{Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range tree.Entries() {
		got = append(got, x.Path+"="+in[x.Content])
	}
	want := "=,.wh.=5,.wh..wh.plnk=,.wh..wh.plnk/1=4,d=,d/.wh..wh..opq=3,d/.wh.x=2,d/x=1,h=2"
	if s := strings.Join(got, ","); s != want || len(tree.Notes) > 0 {
		t.Errorf("got %s\nwant %s; notes %v", s, want, tree.Notes)
	}
}
