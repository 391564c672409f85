package quota_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/rootfsprovider/quota"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// loop returns a loop quota and a directory bounded with it.
func loop(t testing.TB, limit int64) (quota.Loop, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	base := t.TempDir()
	dir := filepath.Join(base, "handle")
	must(t, os.Mkdir(dir, 0o755))
	q := quota.Loop{Images: filepath.Join(base, "images")}
	t.Cleanup(func() {
		must(t, q.Remove(context.Background(), dir))
	})
	must(t, q.Prepare(t.Context(), dir, limit))
	return q, dir
}

// fill writes bytes that do not compress until the file system is full, and
// returns how many went in.
func fill(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	buf := make([]byte, 64<<10)
	rand.Read(buf)
	var total int64
	for {
		n, err := f.Write(buf)
		total += int64(n)
		if errors.Is(err, unix.ENOSPC) {
			return total
		}
		must(t, err)
	}
}

func TestLoopLimit(t *testing.T) {
	for name, limit := range map[string]int64{"1 byte": 1, "1 MiB": 1 << 20, "200 MiB": 200 << 20} {
		t.Run(name, func(t *testing.T) {
			q, dir := loop(t, limit)
			if used, err := q.Usage(dir); err != nil || used != 0 {
				t.Errorf("Usage of the empty layer = %d, %v", used, err)
			}
			got := fill(t, filepath.Join(dir, "file"))
			if got < limit || got > limit+128<<10 {
				t.Errorf("%d bytes went in, the limit being %d", got, limit)
			}
			// Block maps count, too.
			if used, err := q.Usage(dir); err != nil || used < got-4096 || used > got+64<<10 {
				t.Errorf("Usage = %d, %v, of %d bytes", used, err, got)
			}
			must(t, os.Remove(filepath.Join(dir, "file")))
			if used, err := q.Usage(dir); err != nil || used > 4096 {
				t.Errorf("Usage = %d, %v, after everything is removed", used, err)
			}
		})
	}
}

// Bytes run out before inodes do.
func TestLoopInodes(t *testing.T) {
	_, dir := loop(t, 4<<20)
	for i := range 1000 {
		must(t, os.WriteFile(filepath.Join(dir, strings.Repeat("a", i%50+1)+string(rune('a'+i/50))), []byte("x"), 0o600))
	}
}

func TestLoopRemove(t *testing.T) {
	before := loops(t)
	q, dir := loop(t, 1<<20)
	if after := loops(t); after != before+1 {
		t.Errorf("%d loop devices in use, before %d", after, before)
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for range 2 { // the second time there is nothing to do
		must(t, q.Remove(t.Context(), dir))
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("left: %v, %v", entries, err)
		}
		if entries, err := os.ReadDir(q.Images); err != nil || len(entries) != 0 {
			t.Errorf("images left: %v, %v", entries, err)
		}
		if after := loops(t); after != before {
			t.Errorf("%d loop devices in use, before %d", after, before)
		}
	}
	if _, err := q.Usage(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Usage of what is gone: %v", err)
	}
}

// loops counts the loop devices that are bound to files of this test.
func loops(t *testing.T) int {
	t.Helper()
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	n := 0
	for _, b := range backing {
		if text, err := os.ReadFile(b); err == nil && strings.Contains(string(text), "/TestLoop") {
			n++
		}
	}
	return n
}

func TestLoopConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for range 6 {
		q, dir := loop(t, 1<<20)
		wg.Go(func() {
			must(t, q.Remove(t.Context(), dir))
			if err := q.Prepare(t.Context(), dir, 1<<20); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestLoopRefuses(t *testing.T) {
	base := t.TempDir()
	q := quota.Loop{Images: filepath.Join(base, "images")}
	for _, limit := range []int64{0, -1, 1 << 60} {
		if err := q.Prepare(t.Context(), base, limit); err == nil {
			t.Errorf("a limit of %d bytes was accepted", limit)
		}
	}
}

// Without mkfs.ext4 the message says what to install. PATH alone does not hide
// it: the usual places are looked at, too.
func TestLoopFindsMkfs(t *testing.T) {
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("SKIPPED: mkfs.ext4 is missing; install e2fsprogs")
	}
	t.Setenv("PATH", "")
	loop(t, 1<<20)
}

func TestProbe(t *testing.T) {
	// tmpfs has no project quotas anywhere.
	b := quota.For(t.TempDir(), 0)
	if q, name := b.Probe("/dev/shm"); name != quota.NameLoop {
		t.Errorf("Probe = %T %s", q, name)
	}
	for _, name := range []string{quota.NameLoop, quota.NameProject} {
		if _, err := b.Named(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Named("other"); err == nil {
		t.Error("an unknown name was accepted")
	}
	if err := b.Remove(t.Context(), t.TempDir()); err != nil {
		t.Errorf("Remove of an unbounded directory: %v", err)
	}
}

func TestKernelLayout(t *testing.T) {
	for name, l := range quota.Layout {
		if l[0] != l[1] {
			t.Errorf("%s: %d, the kernel has %d", name, l[0], l[1])
		}
	}
}

func TestProject(t *testing.T) {
	base := t.TempDir()
	k := quota.NewFakeKernel()
	p := quota.FakeProject(filepath.Join(base, "ids"), k)
	if !p.Enforced(base) {
		t.Error("quotas are on but not seen")
	}
	ids := map[uint32]bool{}
	var dirs []string
	for _, name := range []string{"a", "b", "c"} {
		dir := filepath.Join(base, name)
		must(t, os.Mkdir(dir, 0o755))
		must(t, p.Prepare(t.Context(), dir, 1000))
		dirs = append(dirs, dir)
	}
	for ino, id := range k.Projects {
		ids[id] = true
		if !k.Inherit[ino] || k.Limits[id] != 1024 {
			t.Errorf("project %d: inherits %v, limit %d", id, k.Inherit[ino], k.Limits[id])
		}
		k.Used[id] = 512
	}
	if len(ids) != 3 {
		t.Errorf("projects %v, want three", ids)
	}
	if used, err := p.Usage(dirs[0]); err != nil || used != 512 {
		t.Errorf("Usage = %d, %v", used, err)
	}
	for range 2 {
		for _, dir := range dirs {
			must(t, p.Remove(t.Context(), dir))
		}
	}
	must(t, p.Remove(t.Context(), filepath.Join(base, "gone")))
	for ino, id := range k.Projects {
		if id != 0 || k.Inherit[ino] {
			t.Errorf("inode %d is still in project %d", ino, id)
		}
	}
	for id := range ids {
		if k.Limits[id] != 0 {
			t.Errorf("project %d still has a limit", id)
		}
	}
	if left, err := os.ReadDir(p.IDs); err != nil || len(left) != 0 {
		t.Errorf("ids left: %v, %v", left, err)
	}
	if _, err := p.Usage(dirs[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Usage without a quota: %v", err)
	}
}

// A project that administrators gave a directory is not ours to remove, with
// or without an id of ours.
func TestProjectOfOthers(t *testing.T) {
	dir := t.TempDir()
	k := quota.NewFakeKernel()
	p := quota.FakeProject(filepath.Join(dir, "ids"), k)
	var st unix.Stat_t
	must(t, unix.Stat(dir, &st))
	k.Projects[st.Ino] = 42
	must(t, p.Remove(t.Context(), dir))
	_, err := quota.Take(p, filepath.Base(dir))
	must(t, err)
	must(t, p.Remove(t.Context(), dir))
	if k.Projects[st.Ino] != 42 {
		t.Error("somebody else's project was removed")
	}
	if _, err := p.Usage(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Usage of somebody else's project: %v", err)
	}
}

// A process that died between taking an id and using it leaves no id, and
// names whose hashes collide get different ids.
func TestProjectLeftovers(t *testing.T) {
	base := t.TempDir()
	k := quota.NewFakeKernel()
	p := quota.FakeProject(filepath.Join(base, "ids"), k)
	for range 3 {
		if _, err := quota.Take(p, "handle"); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(p.IDs); err != nil || len(left) != 3 {
		t.Errorf("ids: %v, %v, want three", left, err)
	}
	must(t, p.Remove(t.Context(), filepath.Join(base, "handle")))
	if left, err := os.ReadDir(p.IDs); err != nil || len(left) != 0 {
		t.Errorf("ids left: %v, %v", left, err)
	}
	for range 16 {
		if _, err := quota.Take(p, "handle"); err != nil {
			t.Fatal(err)
		}
	}
	if id, err := quota.Take(p, "handle"); err == nil {
		t.Errorf("a seventeenth id, %d, was taken", id)
	}
}

func TestProjectFailures(t *testing.T) {
	for _, call := range []string{"limit", "project"} {
		dir := t.TempDir()
		k := quota.NewFakeKernel()
		k.Fail[call] = true
		p := quota.FakeProject(filepath.Join(dir, "ids"), k)
		if err := p.Prepare(t.Context(), dir, 1000); !errors.Is(err, unix.EIO) {
			t.Errorf("%s fails: %v", call, err)
		}
		if left, err := os.ReadDir(p.IDs); err != nil || len(left) != 0 {
			t.Errorf("%s fails: ids left: %v, %v", call, left, err)
		}
		for id, limit := range k.Limits {
			if limit != 0 {
				t.Errorf("%s fails: project %d keeps the limit %d", call, id, limit)
			}
		}
	}
	k := quota.NewFakeKernel()
	k.Off = true
	if quota.FakeProject(t.TempDir(), k).Enforced(t.TempDir()) {
		t.Error("quotas are off but seen")
	}
}

func BenchmarkLoop(b *testing.B) {
	q, dir := loop(b, 1<<30)
	for b.Loop() {
		must(b, q.Remove(b.Context(), dir))
		must(b, q.Prepare(b.Context(), dir, 1<<30))
	}
}

// A container without a limit is counted where project quotas can, and bounded
// nowhere.
func TestCount(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "handle")
	must(t, os.Mkdir(dir, 0o755))
	k := quota.NewFakeKernel()
	b := quota.FakeBackends(base, k)
	name, err := b.Count(dir)
	if err != nil || name != quota.NameProject {
		t.Fatalf("Count = %q, %v", name, err)
	}
	if len(k.Projects) != 1 || len(k.Limits) != 1 {
		t.Fatalf("projects %v, limits %v", k.Projects, k.Limits)
	}
	for id, limit := range k.Limits {
		if limit != 0 {
			t.Errorf("project %d has a limit of %d bytes", id, limit)
		}
		k.Used[id] = 1 << 20
	}
	q, err := b.Named(name)
	must(t, err)
	if used, err := q.Usage(dir); err != nil || used != 1<<20 {
		t.Errorf("Usage = %d, %v", used, err)
	}
	must(t, b.Remove(t.Context(), dir))
	if left, err := os.ReadDir(filepath.Join(base, "projects")); err != nil || len(left) != 0 {
		t.Errorf("ids left: %v, %v", left, err)
	}
	k.Off = true
	if name, err := b.Count(dir); err != nil || name != "" {
		t.Errorf("Count without project quotas = %q, %v", name, err)
	}
}
