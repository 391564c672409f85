package fusefs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

func TestMountpointsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"to-dev": "/dev/shm", "to-root": "/", "dangling": "nowhere", "to-file": "file"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	open, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for path, want := range map[string]string{
		"":                                   "none given",
		filepath.Join(dir, "absent"):         "mkdir -p",
		filepath.Join(dir, "dangling"):       "mkdir -p",
		file:                                 "not a directory",
		filepath.Join(dir, "to-file"):        "not a directory",
		filepath.Join(dir, "to-dev"):         "choose a directory elsewhere",
		filepath.Join(dir, "to-root"):        "choose a directory elsewhere",
		"/dev":                               "choose a directory elsewhere",
		fmt.Sprintf("/dev/fd/%d", open.Fd()): "choose a directory elsewhere",
		"/dev/fuse":                          "choose a directory elsewhere",
	} {
		_, err := fusefs.Mount(t.Context(), tree.New(small(), tree.Options{}), fusefs.Options{Mountpoint: path})
		if !errors.Is(err, fusefs.ErrMountpoint) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}

func TestDeadMountIsNamed(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED: no FUSE on this machine: %v", err)
	}
	err = unix.Mount("dead", dir, "fuse.dead", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	_, err = fusefs.Mount(t.Context(), tree.New(small(), tree.Options{}), fusefs.Options{Mountpoint: dir})
	if !errors.Is(err, fusefs.ErrMountpoint) || !strings.Contains(fmt.Sprint(err), "umount -l") {
		t.Errorf("%v, want the way out of a dead mount", err)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	for _, o := range []fusefs.Options{
		{MaxRead: 4095}, {MaxRead: 2 << 20}, {MaxRead: -4096}, {Readers: -1}, {Waiting: -1}, {Deadline: -1}, {Grace: -1},
	} {
		o.Mountpoint = t.TempDir()
		if _, err := fusefs.Mount(t.Context(), tree.New(small(), tree.Options{}), o); err == nil {
			t.Errorf("%+v was accepted", o)
			_ = unix.Unmount(o.Mountpoint, unix.MNT_DETACH)
		}
	}
}

func TestMountTableAndReadAhead(t *testing.T) {
	m := mount(t, small(), fusefs.Options{FSName: "repo.example.org"})
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("repo.example.org %s fuse.rootstock ro,", m.dir)
	at := strings.Index(string(mounts), want)
	if at < 0 {
		t.Fatalf("no %q in the mount table", want)
	}
	line, _, _ := strings.Cut(string(mounts)[at:], "\n")
	for _, o := range []string{"allow_other", "default_permissions"} {
		if !strings.Contains(line, o) {
			t.Errorf("%s is missing in %s", o, line)
		}
	}
	for _, o := range []string{"nosuid", "nodev"} {
		if strings.Contains(line, o) {
			t.Errorf("%s in %s", o, line)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(m.dir, &st); err != nil {
		t.Fatal(err)
	}
	kb, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)))
	switch {
	case os.IsNotExist(err) || strings.Contains(m.log.String(), "small steps"):
		t.Logf("read-ahead cannot be set here: %v; log: %s", err, m.log)
	case err != nil || strings.TrimSpace(string(kb)) != "1024":
		t.Errorf("read-ahead %q KiB, %v; want 1024", kb, err)
	}
}

// One sequential reader gets large READs.
func TestLargeReads(t *testing.T) {
	v := small()
	const size = 32 << 20
	v.Add("/large", viewtest.File{Data: make([]byte, size)})
	m := mount(t, v, fusefs.Options{})
	if strings.Contains(m.log.String(), "small steps") {
		t.Skip("SKIPPED: read-ahead cannot be set here")
	}
	fd, err := unix.Open(m.path("/large"), unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	before := m.conn.Stats().Requests
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if n := m.conn.Stats().Requests - before; n > size>>19 {
		t.Errorf("%d requests for %d MiB: less than 512 KiB each", n, size>>20)
	}
}
