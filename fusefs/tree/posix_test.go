package tree_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

// pattern is n bytes, no two pages of which are equal.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return p
}

func TestStatFields(t *testing.T) {
	v := viewtest.New()
	for name, f := range map[string]viewtest.File{
		"/regular": {Mode: 0o640, UID: 12, GID: 34, MTime: 1_700_000_000, MTimeNS: 123_456_789, Data: pattern(5000)},
		"/suid":    {Mode: 0o104755, UID: 0, GID: 7},
		"/sgid":    {Mode: 0o102755, UID: 1, GID: 7},
		"/dir":     {Mode: 0o041777, MTime: -315_619_200}, // 1960
		"/null":    {Mode: 0o020666, Rdev: unix.Mkdev(1, 3)},
		"/sda":     {Mode: 0o060660, GID: 6, Rdev: unix.Mkdev(259, 300_000)},
		"/fifo":    {Mode: 0o010600},
		"/socket":  {Mode: 0o140600},
		"/link":    {Mode: 0o120777, Target: "regular"},
		"/big-uid": {Mode: 0o644, UID: 4_000_000_000, GID: 4_000_000_001},
	} {
		v.Add(name, f)
	}
	m := mount(t, v, fusefs.Options{})
	for _, name := range []string{
		"/", "/regular", "/suid", "/sgid", "/dir", "/null", "/sda", "/fifo", "/socket", "/link", "/big-uid",
	} {
		n, err := v.Node(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := v.Attr(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(m.path(name), &st); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("ino %d mode %o uid %d gid %d links %d size %d blocks %d mtime %d.%d ctime %d rdev %d",
			st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Blocks, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Rdev)
		exp := fmt.Sprintf("ino %d mode %o uid %d gid %d links %d size %d blocks %d mtime %d.%d ctime %d rdev %d",
			want.Ino, want.Mode, want.UID, want.GID, want.Links, want.Size, want.Blocks, want.MTime, want.MTimeNS, want.MTime, want.Rdev)
		if got != exp {
			t.Errorf("%s:\n got %s\nwant %s", name, got, exp)
		}
	}
}

func TestHardLinksShareAnInode(t *testing.T) {
	v := viewtest.New()
	v.Add("/a/one", viewtest.File{Data: []byte("x")})
	v.Link("/a/one", "/b/two")
	m := mount(t, v, fusefs.Options{})
	one, err := os.Stat(m.path("/a/one"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.Stat(m.path("/b/two"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(one, two) {
		t.Errorf("hard links are not the same file: %+v, %+v", one.Sys(), two.Sys())
	}
}

func TestNames(t *testing.T) {
	v := viewtest.New()
	names := []string{"plain", "sp ace", "nl\n", "\xff\xfe not UTF-8", strings.Repeat("n", 255), "$HOME", ".hidden", ".go-fuse-epoll-hack"}
	for _, n := range names {
		v.Add("/"+n, viewtest.File{Data: []byte(n)})
	}
	m := mount(t, v, fusefs.Options{})
	for _, n := range names {
		if got, err := os.ReadFile(m.path(n)); err != nil || string(got) != n {
			t.Errorf("%q: %q, %v", n, got, err)
		}
	}
	if _, err := os.Lstat(m.path("/absent")); !os.IsNotExist(err) {
		t.Errorf("absent name: %v", err)
	}
	if err := unix.Access(m.path("/"+strings.Repeat("n", 256)), unix.F_OK); err != unix.ENAMETOOLONG {
		t.Errorf("name of 256 bytes: %v, want ENAMETOOLONG", err)
	}
	if err := unix.Access(m.path("/plain/x"), unix.F_OK); err != unix.ENOTDIR {
		t.Errorf("name below a file: %v, want ENOTDIR", err)
	}
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if e.Name() != ".poll" {
			got = append(got, e.Name())
		}
	}
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("listed %q, want %q", got, names)
	}
}

func TestNoGhostInAnEmptyRoot(t *testing.T) {
	m := mount(t, viewtest.New(), fusefs.Options{})
	if _, err := os.Lstat(m.path("/.go-fuse-epoll-hack")); !os.IsNotExist(err) {
		t.Errorf("a name of go-fuse's own is visible: %v", err)
	}
}

func TestReads(t *testing.T) {
	const size = 5<<20 + 123
	data := pattern(size)
	v := viewtest.New()
	v.Add("/file", viewtest.File{Mode: 0o644, Data: data})
	v.Add("/empty", viewtest.File{Mode: 0o644})
	m := mount(t, v, fusefs.Options{})

	t.Run("whole", func(t *testing.T) {
		got, err := os.ReadFile(m.path("/file"))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v; want the %d written", len(got), err, size)
		}
	})
	t.Run("empty", func(t *testing.T) {
		if got, err := os.ReadFile(m.path("/empty")); err != nil || len(got) != 0 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("pread at and beyond the end", func(t *testing.T) {
		f, err := os.Open(m.path("/file"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p := make([]byte, 100)
		if n, err := f.ReadAt(p, size-10); n != 10 || err != io.EOF || !bytes.Equal(p[:n], data[size-10:]) {
			t.Errorf("across the end: %d, %v", n, err)
		}
		for _, off := range []int64{size, size + 1, 1 << 40} {
			if n, err := f.ReadAt(p, off); n != 0 || err != io.EOF {
				t.Errorf("at %d: %d, %v, want 0, EOF", off, n, err)
			}
		}
		if at, err := f.Seek(-3, io.SeekEnd); err != nil || at != size-3 {
			t.Errorf("seek from the end: %d, %v", at, err)
		}
	})
	t.Run("O_DIRECT", func(t *testing.T) {
		fd, err := unix.Open(m.path("/file"), unix.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		p, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(p)
		for _, off := range []int64{0, 4096, size - size%4096 - 4096} {
			n, err := unix.Pread(fd, p, off)
			if want := data[off:min(off+8192, size)]; err != nil || !bytes.Equal(p[:n], want) {
				t.Errorf("at %d: %d bytes, %v; want %d", off, n, err, len(want))
			}
		}
	})
	t.Run("sendfile", func(t *testing.T) {
		in, err := unix.Open(m.path("/file"), unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(in)
		out, err := os.Create(t.TempDir() + "/copy")
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		for sent := 0; sent < size; {
			n, err := unix.Sendfile(int(out.Fd()), in, nil, size-sent)
			if err != nil || n == 0 {
				t.Fatalf("after %d bytes: %d, %v", sent, n, err)
			}
			sent += n
		}
		if got, err := os.ReadFile(out.Name()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes arrived, %v", len(got), err)
		}
	})
	t.Run("O_PATH", func(t *testing.T) {
		fd, err := unix.Open(m.path("/file"), unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Size != size {
			t.Errorf("fstat: size %d, %v", st.Size, err)
		}
		if _, err := unix.Read(fd, make([]byte, 1)); err != unix.EBADF {
			t.Errorf("read: %v, want EBADF", err)
		}
	})
}

// A program is run, and a file mapped, by other processes: page faults of this
// one would wait for this one.
func TestExecAndMmap(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("SKIPPED: no python3 to map a file with")
	}
	binary, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	data := pattern(3 << 20)
	v := viewtest.New()
	v.Add("/bin/true", viewtest.File{Mode: 0o755, Data: binary})
	v.Add("/bin/noexec", viewtest.File{Mode: 0o644, Data: binary})
	v.Add("/file", viewtest.File{Mode: 0o644, Data: data})
	m := mount(t, v, fusefs.Options{})
	within(t, "exec", func() {
		if out, err := exec.Command("/bin/sh", "-c", m.path("/bin/true")+" && echo ran").CombinedOutput(); string(out) != "ran\n" {
			t.Errorf("exec: %q, %v", out, err)
		}
		if out, err := exec.Command("/bin/sh", "-c", m.path("/bin/noexec")).CombinedOutput(); err == nil || !strings.Contains(string(out), "ermission") {
			t.Errorf("exec without the bit: %q, %v", out, err)
		}
	})
	within(t, "mmap", func() {
		const script = `import mmap,sys,hashlib
f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)
print(hashlib.sha256(m[::-1][::-1]).hexdigest()==hashlib.sha256(open(sys.argv[2],'rb').read()).hexdigest())`
		copied := t.TempDir() + "/copy"
		if err := os.WriteFile(copied, data, 0o600); err != nil {
			t.Error(err)
		}
		if out, err := exec.Command(python, "-c", script, m.path("/file"), copied).CombinedOutput(); string(out) != "True\n" {
			t.Errorf("mmap: %s, %v", out, err)
		}
	})
}

func TestSuidBitAndDevicesWork(t *testing.T) {
	id, err := os.ReadFile("/usr/bin/id")
	if err != nil {
		t.Skipf("SKIPPED: no /usr/bin/id to run: %v", err)
	}
	v := viewtest.New()
	v.Add("/id", viewtest.File{Mode: 0o104755, UID: 0, Data: id})
	v.Add("/zero", viewtest.File{Mode: 0o020666, Rdev: unix.Mkdev(1, 5)})
	m := mount(t, v, fusefs.Options{})
	// Others must be able to get there.
	for p := m.dir; p != "/"; p = p[:max(strings.LastIndexByte(p, '/'), 1)] {
		if p == m.dir {
			continue
		}
		if err := unix.Access(p, unix.X_OK); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(p, "Test") {
			break
		}
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "suid", func() {
		out, err := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
			"/bin/sh", "-c", m.path("/id")+" -u").CombinedOutput()
		if err != nil || string(out) != "0\n" {
			t.Errorf("suid program run by nobody says %q, %v; want 0", out, err)
		}
	})
	f, err := os.Open(m.path("/zero"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := []byte{1, 2, 3}
	if _, err := io.ReadFull(f, p); err != nil || !bytes.Equal(p, make([]byte, 3)) {
		t.Errorf("device node: %v, %v", p, err)
	}
}

func TestXAttrs(t *testing.T) {
	// cap_net_raw+ep, revision 2.
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	v := viewtest.New()
	v.Add("/ping", viewtest.File{Mode: 0o755, XAttrs: map[string]string{"security.capability": capability, "user.note": "hello"}})
	v.Add("/plain", viewtest.File{Mode: 0o644})
	m := mount(t, v, fusefs.Options{})
	buf := make([]byte, 100)
	n, err := unix.Getxattr(m.path("/ping"), "security.capability", buf)
	if err != nil || string(buf[:n]) != capability {
		t.Errorf("getxattr: %q, %v", buf[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(m.path("/ping"), "user.note", nil); err != nil || n != 5 {
		t.Errorf("size of a value: %d, %v, want 5", n, err)
	}
	if _, err := unix.Getxattr(m.path("/ping"), "user.note", buf[:2]); err != unix.ERANGE {
		t.Errorf("short buffer: %v, want ERANGE", err)
	}
	if _, err := unix.Getxattr(m.path("/plain"), "user.note", buf); err != unix.ENODATA {
		t.Errorf("absent: %v, want ENODATA", err)
	}
	n, err = unix.Listxattr(m.path("/ping"), buf)
	if err != nil || string(buf[:n]) != "security.capability\x00user.note\x00" {
		t.Errorf("listxattr: %q, %v", buf[:max(n, 0)], err)
	}
	if out, err := exec.Command("getcap", m.path("/ping")).Output(); err != nil || !strings.Contains(string(out), "cap_net_raw") {
		t.Errorf("getcap: %q, %v", out, err)
	}
}

func TestXAttrsAreNotAskedForWhereThereAreNone(t *testing.T) {
	for _, never := range []bool{false, true} {
		v := viewtest.New()
		v.Add("/file", viewtest.File{})
		m := mount(t, v, fusefs.Options{NoXAttrs: never})
		_, err := unix.Getxattr(m.path("/file"), "security.capability", make([]byte, 10))
		if want := map[bool]error{false: unix.ENODATA, true: unix.EOPNOTSUPP}[never]; err != want {
			t.Errorf("NoXAttrs %v: %v, want %v", never, err, want)
		}
		before := m.conn.Stats().Requests
		for range 10 {
			_, _ = unix.Getxattr(m.path("/file"), "security.capability", make([]byte, 10))
		}
		asked := m.conn.Stats().Requests - before
		if never && asked != 0 || !never && asked != 10 {
			t.Errorf("NoXAttrs %v: %d requests for 10 questions", never, asked)
		}
	}
}

func TestNothingCanBeWritten(t *testing.T) {
	v := viewtest.New()
	v.Add("/file", viewtest.File{Mode: 0o666, Data: []byte("x")})
	v.Add("/dir/file", viewtest.File{Mode: 0o666})
	m := mount(t, v, fusefs.Options{})
	open := func(path string, flags int) error {
		fd, err := unix.Open(path, flags, 0o600)
		if err == nil {
			_, err = unix.Write(fd, []byte("y"))
			unix.Close(fd)
		}
		return err
	}
	all := map[string]func() error{
		"create":      func() error { return open(m.path("/new"), unix.O_CREAT|unix.O_WRONLY) },
		"write":       func() error { return open(m.path("/file"), unix.O_WRONLY) },
		"tmpfile":     func() error { return open(m.dir, unix.O_TMPFILE|unix.O_RDWR) },
		"truncate":    func() error { return unix.Truncate(m.path("/file"), 0) },
		"mkdir":       func() error { return unix.Mkdir(m.path("/new"), 0o700) },
		"mknod":       func() error { return unix.Mknod(m.path("/new"), unix.S_IFIFO|0o600, 0) },
		"unlink":      func() error { return unix.Unlink(m.path("/file")) },
		"rmdir":       func() error { return unix.Rmdir(m.path("/dir")) },
		"rename":      func() error { return unix.Rename(m.path("/file"), m.path("/new")) },
		"link":        func() error { return unix.Link(m.path("/file"), m.path("/new")) },
		"symlink":     func() error { return unix.Symlink("x", m.path("/new")) },
		"chmod":       func() error { return unix.Chmod(m.path("/file"), 0o600) },
		"chown":       func() error { return unix.Lchown(m.path("/file"), 1, 1) },
		"utimes":      func() error { return unix.Utimes(m.path("/file"), make([]unix.Timeval, 2)) },
		"setxattr":    func() error { return unix.Setxattr(m.path("/file"), "user.x", []byte("x"), 0) },
		"removexattr": func() error { return unix.Removexattr(m.path("/file"), "user.x") },
	}
	for name, f := range all {
		if err := f(); err != unix.EROFS {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
	// By hand, past the mount's own flag: our answer counts then.
	if err := unix.Mount("", m.dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatalf("remount: %v", err)
	}
	for name, f := range all {
		if err := f(); err != unix.EROFS {
			t.Errorf("remounted read-write, %s: %v, want EROFS", name, err)
		}
	}
}

func TestStatfs(t *testing.T) {
	m := mount(t, viewtest.New(), fusefs.Options{})
	var s unix.Statfs_t
	if err := unix.Statfs(m.dir, &s); err != nil {
		t.Fatal(err)
	}
	if s.Blocks != 1<<20 || s.Bsize != 4096 || s.Namelen != 255 || s.Bavail != 0 || s.Files == 0 {
		t.Errorf("statfs: %+v", s)
	}
	if s.Flags&unix.ST_RDONLY == 0 || s.Flags&(unix.ST_NOSUID|unix.ST_NODEV) != 0 {
		t.Errorf("mount flags %#x: want read-only, with suid and dev", s.Flags)
	}
}

func TestConcurrentReaders(t *testing.T) {
	const files, readers = 40, 100
	v := viewtest.New()
	for i := range files {
		v.Add(fmt.Sprintf("/d%d/f%d", i%4, i), viewtest.File{Data: pattern(20_000 + i)})
	}
	m := mount(t, v, fusefs.Options{})
	var wg sync.WaitGroup
	for r := range readers {
		wg.Go(func() {
			for k := range files {
				i := (k + r) % files
				got, err := os.ReadFile(m.path(fmt.Sprintf("/d%d/f%d", i%4, i)))
				if err != nil || !bytes.Equal(got, pattern(20_000+i)) {
					t.Errorf("reader %d, file %d: %d bytes, %v", r, i, len(got), err)
				}
			}
		})
	}
	wg.Wait()
}
