package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/e2e/rig"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

func needImageTier(t testing.TB) {
	t.Helper()
	needRoot(t)
	if tier(t) != cell.TierImage {
		t.Skip("SKIPPED: this kernel has no image tier")
	}
}

// peculiar adds to root what a catalog cannot say and an image must.
func peculiar(t *testing.T, root string) {
	t.Helper()
	at := func(p string) string { return filepath.Join(root, p) }
	for _, d := range []string{"p/one/deep", "p/two", "p/empty"} {
		must(t, os.MkdirAll(at(d), 0o755))
	}
	must(t, os.WriteFile(at("p/one/deep/first"), []byte("one inode, three names"), 0o640))
	must(t, os.Link(at("p/one/deep/first"), at("p/two/second")))
	must(t, os.Link(at("p/one/deep/first"), at("p/third")))
	must(t, os.WriteFile(at("p/attributes"), []byte("x"), 0o600))
	must(t, unix.Setxattr(at("p/attributes"), "user.long", []byte(strings.Repeat("long ", 600)), 0))
	must(t, unix.Setxattr(at("p/attributes"), "user.empty", nil, 0))
	must(t, unix.Setxattr(at("p/two"), "trusted.of-a-directory", []byte{0, 255, 10}, 0))
	must(t, os.WriteFile(at("p/able"), []byte("#!/bin/sh\n"), 0o755))
	run(t, "", "setcap", "cap_net_raw,cap_net_bind_service+ep", at("p/able"))
	must(t, os.WriteFile(at("p/setuid"), []byte("s"), 0o600))
	must(t, os.Chown(at("p/setuid"), 1000, 1001))
	must(t, os.Chmod(at("p/setuid"), 0o755|os.ModeSetuid|os.ModeSetgid))
	must(t, os.Symlink(strings.Repeat("../", 400)+"nowhere", at("p/dangling")))
	must(t, unix.Mknod(at("p/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(at("p/disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70_000))))
	must(t, unix.Mkfifo(at("p/fifo"), 0o620))
	must(t, os.WriteFile(at("p/\xff\x01 odd:name,\\"), []byte("o"), 0o644))
	must(t, os.WriteFile(at("p/large"), []byte(strings.Repeat("chunks ", 2<<20)), 0o644))
	for i, p := range []string{"p/attributes", "p/one/deep/first", "p/dangling", "p/fifo", "p/two", "p/empty"} {
		ns := []unix.Timespec{{Sec: 1e9, Nsec: 1}, {Sec: 1_234_567_890, Nsec: int64(123_456_789 + i)}}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at(p), ns, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// sameTree compares a container's root with its source. Only the root directory
// itself is merged with the write layer, and says that it has one link.
func sameTree(t *testing.T, source, root string) map[string]seen {
	t.Helper()
	want, got := walk(t, source), walk(t, root)
	top := got["."]
	top.Links = want["."].Links
	got["."] = top
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the container differs from its source (-source +container):\n%.8000s", d)
	}
	return got
}

// A Debian root file system with everything that is hard to say is in a
// container what it is in its source; and it stays so when the daemon dies.
func TestImageTierDebian(t *testing.T) {
	needImageTier(t)
	s := newSite(t)
	source := filepath.Join(s.dir, "source")
	must(t, os.Mkdir(source, 0o755))
	run(t, "", "tar", "-C", source, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", rig.Debian(t),
		"--exclude=./usr/share", "--exclude=./var/lib", "--exclude=./var/cache", "--exclude=./usr/lib/x86_64-linux-gnu/gconv")
	peculiar(t, source)
	tar := filepath.Join(s.dir, "debian.tar")
	run(t, "", "tar", "-C", source, "--numeric-owner", "--format=posix", "--xattrs", "--xattrs-include=*", "-cpf", tar, ".")
	s.publish(t, "rootfs", "debian", "12", tar)
	c := s.cell(t, "--tier", "image")
	const ref = "rootfs/debian@12"
	first := c.create("plugin.json", ref, "first")

	got := sameTree(t, source, first)
	if e := got["p/third"]; e.Links != 3 || e.Twin != "p/one/deep/first" {
		t.Errorf("hard links over directories: %+v", e)
	}
	if out := run(t, "", "getcap", filepath.Join(first, "p/able")); !strings.Contains(out, "cap_net_bind_service,cap_net_raw=ep") {
		t.Errorf("getcap says %q", out)
	}
	// All of it is cached now: another container needs nothing of the daemon.
	second := c.create("plugin.json", ref, "second")
	before := c.status()
	if before.Tier != cell.TierImage || before.Images.Trees != 1 || before.Images.Failures != 0 {
		t.Errorf("status: %+v, %+v", before, before.Images)
	}
	sameTree(t, source, second)
	if after := c.status(); after.Images.Requests != before.Images.Requests || after.Repositories[0].Requests != before.Repositories[0].Requests {
		t.Errorf("%d requests to the objects and %d to the tree for a tree that is cached",
			after.Images.Requests-before.Images.Requests, after.Repositories[0].Requests-before.Repositories[0].Requests)
	}
	checkMapped(t, c, ref)
	killUnderReaders(t, c, source, second)

	// The next daemon finds the mount and the containers.
	c.start()
	if st := c.status(); st.Images.Trees != 1 || st.Repositories[0].Containers != 2 {
		t.Errorf("after a restart: %d containers on %d trees", st.Repositories[0].Containers, st.Images.Trees)
	}
	third := c.create("plugin.json", ref, "third")
	if b, err := os.ReadFile(third + "/etc/debian_version"); err != nil || len(b) == 0 {
		t.Errorf("a new container: %q, %v", b, err)
	}
	for _, handle := range []string{"first", "second", "third"} {
		c.plugin("plugin.json", "delete", handle)
	}
	c.nothingMounted("containers")
	c.nothingMounted("cache/mnt/trees")
	c.stop()
	c.nothingMounted("")
}

// checkMapped looks at the tree through Guardian's mapping, whose root is a
// user of the host that nobody else is.
func checkMapped(t *testing.T, c *cellDaemon, ref string) {
	t.Helper()
	const nobody = 4294967294
	c.config("mapped.json", []overlay.IDRange{{Container: 0, Host: nobody, Size: 1}, {Container: 1, Host: 1, Size: 65535}})
	root := c.create("mapped.json", ref, "mapped")
	for path, want := range map[string][2]uint32{"p/able": {nobody, nobody}, "p/setuid": {1000, 1001}, "p/dangling": {nobody, nobody}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(root, path), &st); err != nil || st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("mapped %s: owner %d:%d, %v; want %v", path, st.Uid, st.Gid, err, want)
		}
	}
	if b, err := os.ReadFile(root + "/p/able"); err != nil || len(b) == 0 {
		t.Errorf("mapped content: %q, %v", b, err)
	}
	c.plugin("mapped.json", "delete", "mapped")
}

// killUnderReaders kills the daemon while root is listed, read and executed.
func killUnderReaders(t *testing.T, c *cellDaemon, source, root string) {
	t.Helper()
	var rounds, failures atomic.Int64
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := round(root, i); err != nil {
					failures.Add(1)
					t.Errorf("reader: %v", err)
				}
				rounds.Add(1)
			}
		})
	}
	wait := func(n int64) {
		for deadline := time.Now().Add(patience); rounds.Load() < n && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	wait(4)
	c.kill()
	wait(rounds.Load() + 8)
	close(stop)
	readers.Wait()
	if failures.Load() > 0 {
		t.Errorf("%d of %d rounds failed", failures.Load(), rounds.Load())
	}
	sameTree(t, source, root)
}

func round(root string, n int) error {
	dirs := []string{"usr/bin", "usr/lib/x86_64-linux-gnu", "etc", "p"}
	dir := filepath.Join(root, dirs[n%len(dirs)])
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Type().IsRegular() {
			if _, err := digest(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// The container's own programs, by the container's own loader.
	return exec.Command("chroot", root, "/bin/cat", "/etc/debian_version").Run()
}

// An image that umoci made and unpacked is in a container what umoci unpacked.
func TestImageTierOCIImage(t *testing.T) {
	needImageTier(t)
	s := newSite(t)
	umoci := func(args ...string) { t.Helper(); run(t, s.dir, "umoci", args...) }
	umoci("init", "--layout", "oci")
	umoci("new", "--image", "oci:base")
	umoci("unpack", "--image", "oci:base", "bundle")
	peculiar(t, filepath.Join(s.dir, "bundle/rootfs"))
	umoci("repack", "--image", "oci:one", "bundle")
	umoci("unpack", "--image", "oci:one", "second")
	rootfs := filepath.Join(s.dir, "second/rootfs")
	must(t, os.Remove(rootfs+"/p/third"))
	must(t, os.WriteFile(rootfs+"/p/third", []byte("another file now"), 0o644))
	must(t, os.RemoveAll(rootfs+"/p/two"))
	umoci("repack", "--image", "oci:two", "second")
	umoci("unpack", "--image", "oci:two", "source")
	s.publish(t, "image", "oci:"+filepath.Join(s.dir, "oci")+":two", "--as", "registry.example.org/app:1")

	c := s.cell(t, "--tier", "image")
	root := c.create("plugin.json", "images/registry.example.org/app@1", "app")
	got := sameTree(t, filepath.Join(s.dir, "source/rootfs"), root)
	if _, there := got["p/two"]; there || got["p/third"].Links != 1 {
		t.Errorf("the upper layer: %+v", got["p/third"])
	}
	// A stop does not wait for containers, nor take their trees away.
	c.stop()
	sameTree(t, filepath.Join(s.dir, "source/rootfs"), root)
	c.start()
	c.plugin("plugin.json", "delete", "app")
	c.nothingMounted("cache/mnt/trees")
}

// What was never cached fails without a daemon, at once and as what it is.
func TestImageTierWithoutDaemon(t *testing.T) {
	needImageTier(t)
	s := newSite(t)
	tar := filepath.Join(s.dir, "tree.tar")
	run(t, s.dir, "python3", abs(t, "testdata/tree.py"), tar)
	s.publish(t, "rootfs", "tree", "1", tar)
	c := s.cell(t, "--tier", "image", "--run", filepath.Join(s.dir, "run"))
	if _, err := os.Stat(filepath.Join(s.dir, "run/objects")); err != nil {
		t.Errorf("--run is not where the mounts are: %v", err)
	}
	root := c.create("plugin.json", "rootfs/tree", "one")
	names := walkNames(t, root)
	c.kill()
	if again := walkNames(t, root); len(again) != len(names) || len(names) < 20 {
		t.Errorf("%d names, %d without the daemon", len(names), len(again))
	}
	failed := 0
	for _, name := range names {
		info, err := os.Lstat(name)
		must(t, err)
		if !info.Mode().IsRegular() || info.Size() == 0 {
			continue
		}
		if _, err := digest(name); err != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Error("contents that nobody has were read")
	}
	c.start()
	c.plugin("plugin.json", "delete", "one")
	root = c.create("plugin.json", "rootfs/tree", "two")
	for _, name := range walkNames(t, root) {
		if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() {
			if _, err := digest(name); err != nil {
				t.Errorf("after a restart: %v", err)
			}
		}
	}
	c.plugin("plugin.json", "delete", "two")
}

func walkNames(t *testing.T, root string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	}))
	return names
}

func TestTierThatIsNone(t *testing.T) {
	needRoot(t)
	out, err := exec.Command(programs(t)+"/rootstock-cell", "mount", "--tier", "best", "--url", "http://127.0.0.1:1",
		"--name", siteName, "--key", "k", "--cache", t.TempDir(), t.TempDir()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "auto, image or tree") {
		t.Errorf("%v: %s", err, out)
	}
}
