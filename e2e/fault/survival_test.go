package fault_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

func writePublicKey(name string, key *rsa.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
}

// survived adds a line to what make fault prints.
func survived(what string, count int, u used) {
	resultsMu.Lock()
	defer resultsMu.Unlock()
	survivals = append(survivals, fmt.Sprintf("%s\t%d\t%d\t%d\t%d ms\t%s", what, count, u.Operations, len(u.Errors), u.Longest.Milliseconds(), u.kind()))
}

var survivals []string

// kind is what the longest operation did.
func (u *used) kind() string {
	word, _, found := strings.Cut(u.What, " ")
	if !found {
		return "read of what was not cached"
	}
	return word
}

// The worker is killed with fetches in flight, and nobody notices but by waiting.
func TestWorkerKilled(t *testing.T) {
	for name, c := range map[string]struct {
		count int
		args  []string
	}{
		"resend":    {times(10, 1000), nil},
		"no resend": {times(10, 200), []string{"--no-resend"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.count, c.args...)
			root := r.container("one")
			// One without a listing of its own, as if stock had published it.
			compiled := r.containerOf("two", "-/rootfs/demo", nil) + "/1"
			u := r.use(root, r.tree(), compiled)
			for n := range c.count {
				wait := u.fetch(root+"/"+coldPath("container", n), r.tree()+"/"+coldPath("mount", n))
				r.kill()
				wait()
			}
			got := u.stop()
			if starts := r.started(); starts <= c.count {
				t.Errorf("%d starts: the worker was not killed each time", starts)
			}
			survived("worker killed, "+name, c.count, got)
			t.Logf("%d kills, %d operations, %d errors, longest %v: %s", c.count, got.Operations, len(got.Errors), got.Longest, got.What)
		})
	}
}

// What the daemon maps the ids of is kept as the repository's own mount is.
func TestWorkerWithMappedIDsKilled(t *testing.T) {
	count := times(6, 100)
	r := newConfiguredRig(t, count+1, map[string]any{"tier": "tree", "id_mapping": "daemon"})
	ids := []overlay.IDRange{{Container: 0, Host: 100_000, Size: 65_536}}
	root := r.containerOf("one", "rootfs/demo@1", ids)
	u := r.use(root)
	// Backwards, or the daemon would have fetched what comes next.
	var cold []string
	for n := range count + 1 {
		cold = append(cold, coldPath("container", n))
	}
	slices.Sort(cold)
	slices.Reverse(cold)
	for _, path := range cold[:count] {
		wait := u.fetch(root + "/" + path)
		r.kill()
		wait()
	}
	var st unix.Stat_t
	if err := unix.Stat(root+"/warm/0", &st); err != nil || st.Uid != 100_000 {
		t.Errorf("owner %d, %v", st.Uid, err)
	}
	// A stop is no more than that, and the next container gets the same mount.
	wait := u.fetch(root + "/" + cold[count])
	r.halt(unix.SIGTERM)
	r.resume()
	wait()
	next := r.containerOf("two", "rootfs/demo@1", ids)
	must(t, same(next+"/warm/0", content("warm/0")))
	if s := r.status(); s.Repositories[0].IDMappings != 1 || s.Repositories[0].Containers != 2 {
		t.Errorf("%+v", s.Repositories[0])
	}
	got := u.stop()
	if starts := r.started(); starts <= count {
		t.Errorf("%d starts: the worker was not killed each time", starts)
	}
	survived("worker killed that maps ids", count, got)
	t.Logf("%d kills, %d operations, %d errors, longest %v: %s", count, got.Operations, len(got.Errors), got.Longest, got.What)
}

// The worker's program is swapped under load; one that hangs or fails is taken
// back.
func TestUpgrades(t *testing.T) {
	good, bad := times(4, 100), times(2, 20)
	r := newRig(t, good+bad)
	root := r.container("one")
	u := r.use(root, r.tree())
	script := func(name, text string) string {
		path := filepath.Join(r.dir, name)
		must(t, os.WriteFile(path, []byte("#!/bin/sh\ncase \"$*\" in *--help*) exit 0;; esac\n"+text+"\n"), 0o755))
		return path
	}
	built, err := program()
	must(t, err)
	hangs, fails := script("hangs", "exec sleep 1000"), script("fails", "exit 1")
	upgrade := func(binary, timeout string) (string, error) {
		out, err := exec.Command(built, "upgrade", "--socket", r.dir+"/cell.sock", "--binary", binary, "--timeout", timeout).CombinedOutput()
		return string(out), err
	}
	for n := range good {
		wait := u.fetch(root+"/"+coldPath("container", n), r.tree()+"/"+coldPath("mount", n))
		before := r.status()
		if out, err := upgrade(built, "1m"); err != nil {
			t.Fatalf("upgrade %d: %v\n%s", n, err, out)
		}
		wait()
		after := r.status()
		if after.WorkerPID != before.WorkerPID || after.WorkerSince.Equal(before.WorkerSince) || after.HolderPID != r.holder.Process.Pid {
			t.Fatalf("upgrade %d: %+v", n, after)
		}
	}
	got := u.stop()
	survived("worker upgraded", good, got)
	t.Logf("%d upgrades, %d operations, %d errors, longest %v: %s", good, got.Operations, len(got.Errors), got.Longest, got.What)
	u = r.use(root, r.tree())
	for n := range bad {
		wait := u.fetch(root+"/"+coldPath("container", good+n), r.tree()+"/"+coldPath("mount", good+n))
		binary, timeout := fails, "1m"
		if n == 0 {
			binary, timeout = hangs, "3s"
		}
		out, err := upgrade(binary, timeout)
		if err == nil || !strings.Contains(out, "the old one is back") {
			t.Fatalf("failed upgrade %d: %v\n%s", n, err, out)
		}
		wait()
	}
	// What runs is the program, not the script.
	if n, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.status().WorkerPID)); err != nil || n != r.binary {
		t.Errorf("%s runs, %v", n, err)
	}
	// What is no program is refused before anything is touched.
	since := r.status().WorkerSince
	must(t, os.WriteFile(r.dir+"/text", []byte("no program"), 0o755))
	if out, err := upgrade(r.dir+"/text", "1m"); err == nil || !strings.Contains(out, "does not run here") || !r.status().WorkerSince.Equal(since) {
		t.Errorf("a text: %v\n%s", err, out)
	}
	got = u.stop()
	survived("worker's upgrade failed, one after a time-out of 3 s", bad, got)
	t.Logf("%d failed, %d operations, %d errors, longest %v: %s", bad, got.Operations, len(got.Errors), got.Longest, got.What)
}

// Holder killed while the worker lives: the worker goes on, and gives a new one
// all that the old one had. Both killed: what is cached goes on, and new
// containers start when both are back.
func TestHolderKilled(t *testing.T) {
	r := newRig(t, 6)
	root := r.container("one")
	u := r.use(root, r.tree())
	r.holder.Process.Kill()
	r.holder.Wait()
	u.fetch(root+"/"+coldPath("container", 0), r.tree()+"/"+coldPath("mount", 0))()
	r.startHolder()
	for r.status().HolderPID != r.holder.Process.Pid {
		time.Sleep(10 * time.Millisecond)
	}
	wait := u.fetch(root+"/"+coldPath("container", 1), r.tree()+"/"+coldPath("mount", 1))
	r.kill()
	wait()
	survived("holder killed, then worker", 1, u.stop())
	must(t, same(root+"/warm/0", content("warm/0")))
	other, tier := r.container("other"), r.status().Tier // other has looked at nothing

	r.halt(os.Kill)
	r.holder.Process.Kill()
	r.holder.Wait()
	if tier == cell.TierImage { // on the other all that the kernel does not remember has gone
		for _, rel := range []string{"warm/0", "bin/echo", coldPath("container", 2)} {
			if _, err := os.Lstat(filepath.Join(root, rel)); err != nil {
				t.Errorf("metadata: %v", err)
			}
		}
		if err := same(other+"/warm/0", content("warm/0")); err != nil {
			t.Errorf("cached: %v", err)
		}
	}
	err := same(filepath.Join(root, coldPath("container", 2)), content(coldPath("container", 2)))
	if !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("content that nobody has: %v, want ENOTCONN at once", err)
	}
	r.startHolder()
	r.resume()
	next := r.container("two")
	u = r.use(next, r.tree())
	u.fetch(next+"/"+coldPath("container", 3), r.tree()+"/"+coldPath("mount", 3))()
	survived("holder and worker killed, next container", 1, u.stop())
}

// A stop and a start of the worker keep everything; a mount that somebody took
// away meanwhile is made again.
func TestRestartedWorker(t *testing.T) {
	r := newRig(t, 4)
	root := r.container("one")
	u := r.use(root, r.tree())
	wait := u.fetch(root+"/"+coldPath("container", 0), r.tree()+"/"+coldPath("mount", 0))
	r.halt(unix.SIGTERM)
	r.resume()
	wait()
	survived("worker stopped and started", 1, u.stop())
	s := r.status()
	image := s.Tier == cell.TierImage
	if len(s.Repositories) != 1 || s.Repositories[0].Containers != 1 || image && s.Images.Trees != 1 {
		t.Errorf("containers are not known again: %+v", s)
	}

	r.halt(os.Kill)
	must(t, unix.Unmount(r.dir+"/mnt", unix.MNT_DETACH))
	if image {
		must(t, unix.Unmount(r.dir+"/cache/mnt/objects", unix.MNT_DETACH))
	}
	r.resume()
	next := r.container("two")
	if !image { // what stood on the repository's own mount went with it
		root = next
	}
	u = r.use(root, next, r.tree()) // the first one stands on the connection that is mounted nowhere
	u.fetch(root+"/"+coldPath("container", 1), next+"/"+coldPath("container", 2), r.tree()+"/"+coldPath("mount", 2))()
	wait = u.fetch(root+"/"+coldPath("container", 3), r.tree()+"/"+coldPath("mount", 3))
	r.kill()
	wait()
	survived("mounts lost while the worker was dead", 1, u.stop())
}

// A new revision that comes while the worker is dead is shown by the next one,
// to a kernel that remembers the old one.
func TestRevisionWhileDead(t *testing.T) {
	r := newRig(t, 1)
	if _, err := os.Stat(r.dir + "/mnt/rootfs/demo/2"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("absent: %v", err)
	}
	r.halt(os.Kill)
	r.stratum.Files("demo", "2", map[string][]byte{"new": []byte("new")})
	r.stratum.Files("other", "1", map[string][]byte{"new": []byte("new")})
	r.resume()
	for _, name := range []string{"demo/2", "other/1"} {
		deadline := time.Now().Add(time.Minute)
		for {
			b, err := os.ReadFile(r.dir + "/mnt/rootfs/" + name + "/new")
			if err == nil && string(b) == "new" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %q, %v", name, b, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// Contents go from under containers: evicted while open, before they were looked
// up, and while they are being fetched; then the cache's directories are lost.
func TestContentsLost(t *testing.T) {
	r := newRig(t, 4)
	root, next := r.container("one"), r.container("two")
	evict := func() {
		if out, err := exec.Command(r.binary, "evict", "--socket", r.dir+"/cell.sock", "1000000000").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	cached := func(path string) bool {
		_, err := os.Stat(filepath.Join(r.dir, "cache", object.ContentOf(content(path)).CachePath()))
		return err == nil
	}
	row := func(what string, count int, roots []string, lose func(u *users)) {
		u := r.use(roots...)
		lose(u)
		survived(what, count, u.stop())
	}
	times := times(3, 50)
	open, late := coldPath("container", 0), coldPath("container", 1)
	row("contents evicted while open", times, []string{root, r.tree()}, func(u *users) {
		u.fetch(root + "/" + open)()
		for range times {
			fd, err := unix.Open(root+"/"+open, unix.O_RDONLY, 0)
			must(t, err)
			evict()
			buf := make([]byte, 4096)
			if n, err := unix.Pread(fd, buf, 0); err != nil || string(buf[:n]) != string(content(open)) {
				t.Errorf("evicted while open: %d, %v", n, err)
			}
			unix.Close(fd)
		}
	})
	row("content evicted before the first lookup", 1, []string{root, r.tree()}, func(u *users) {
		u.fetch(root + "/" + late)()
		for deadline := time.Now().Add(time.Minute); cached(late); evict() {
			if time.Now().After(deadline) {
				t.Fatal("it is not evicted")
			}
		}
		must(t, same(next+"/"+late, content(late)))
	})
	row("contents evicted while being fetched", 2, []string{root, next, r.tree()}, func(u *users) {
		for _, path := range []string{coldPath("container", 2), coldPath("container", 3)} {
			wait := u.fetch(next + "/" + path)
			evict()
			wait()
		}
	})
	row("cache's directories lost", 1, []string{root, next, r.tree()}, func(*users) {
		for _, pattern := range []string{"[0-9a-f][0-9a-f]", "objects/*"} {
			list, err := filepath.Glob(filepath.Join(r.dir, "cache", pattern))
			must(t, err)
			for _, path := range list {
				must(t, os.RemoveAll(path))
			}
		}
		third := r.container("three")
		for n := range warmEach {
			path := fmt.Sprintf("warm/%d", n)
			if err := same(third+"/"+path, content(path)); err != nil {
				t.Errorf("cache lost: %s: %v", path, err)
			}
		}
	})
}

// The objects mount goes while containers use it: they keep it, and the next
// container gets another. Both are kept over a death.
func TestObjectsMountLost(t *testing.T) {
	count := times(2, 10)
	r := newRig(t, 2*count)
	root := r.container("one")
	u := r.use(root, r.tree())
	for n := range count {
		must(t, unix.Unmount(r.dir+"/cache/mnt/objects", unix.MNT_DETACH))
		next := r.container(fmt.Sprintf("next%d", n))
		late := coldPath("container", 2*n+1)
		wait := u.fetch(root + "/" + coldPath("container", 2*n))
		read := make(chan error, 1)
		go func() { read <- same(next+"/"+late, content(late)) }()
		if n%2 == 0 {
			r.kill()
		}
		wait()
		if err := <-read; err != nil {
			t.Errorf("a container on the new mount: %v", err)
		}
	}
	survived("objects mount lost", count, u.stop())
}

// The kernel drops what it remembers, again and again.
func TestMemoryPressure(t *testing.T) {
	r := newRig(t, times(2, 40))
	root := r.container("one")
	u := r.use(root, r.tree())
	for n := range times(2, 40) {
		wait := u.fetch(root+"/"+coldPath("container", n), r.tree()+"/"+coldPath("mount", n))
		must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		if n%4 == 0 {
			r.kill()
		}
		wait()
	}
	survived("caches dropped", times(2, 40), u.stop())
}

// Many containers at once, with the worker killed among them.
func TestManyContainers(t *testing.T) {
	count := times(20, 200)
	r := newRig(t, 1)
	roots := make([]string, count)
	var all sync.WaitGroup
	began := time.Now()
	for n := range count {
		all.Go(func() { roots[n] = r.container(fmt.Sprintf("c%d", n)) })
	}
	all.Wait()
	t.Logf("%d containers in %v", count, time.Since(began))
	if t.Failed() {
		t.FailNow()
	}
	r.kill()
	for _, root := range roots {
		all.Go(func() {
			for _, path := range []string{"warm/3", "bin/echo"} {
				want := content(path)
				if path == "bin/echo" {
					want, _ = os.ReadFile("/bin/echo")
				}
				if err := same(root+"/"+path, want); err != nil {
					t.Errorf("%s: %v", root, err)
				}
			}
		})
	}
	all.Wait()
	if n := r.status().Repositories[0].Containers; n != count {
		t.Errorf("%d containers are known after the kill, of %d", n, count)
	}
	survived("containers at once", count, used{Operations: 2 * count})
}
