package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/check"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
)

// Where this program is a publisher that is to be killed, and at which write.
const (
	killDir    = "ROOTSTOCK_TEST_KILL_DIR"
	killAt     = "ROOTSTOCK_TEST_KILL_AT"
	killDuring = "ROOTSTOCK_TEST_KILL_DURING"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := publishUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killing is a store at whose n-th write the process dies, before the write has
// begun or while it is under way.
type killing struct {
	store.Store
	left   atomic.Int64
	during bool
}

func (k *killing) write(do func() error) error {
	if k.left.Add(-1) > 0 {
		return do()
	}
	if k.during {
		started := make(chan struct{})
		go func() { close(started); do() }() //nolint:errcheck // nobody is left to hear
		<-started
		for range 50 {
			runtime.Gosched()
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {}
}

func (k *killing) Put(ctx context.Context, name string, data []byte) error {
	return k.write(func() error { return k.Store.Put(ctx, name, data) })
}

func (k *killing) Sync(ctx context.Context) error {
	return k.write(func() error { return k.Store.Sync(ctx) })
}

func (k *killing) Swap(ctx context.Context, name string, old, next []byte) error {
	return k.write(func() error { return k.Store.Swap(ctx, name, old, next) })
}

// unsynced is a store of which a process may die but not the machine.
type unsynced struct{ store.Store }

func (unsynced) Sync(context.Context) error { return nil }

// victim is a repository in a directory, and what is published into it.
func victim(dir string) (publisher.Options, error) {
	keys, err := manifest.ReadKeys(filepath.Join(dir, "keys"), fqrn)
	if err != nil {
		return publisher.Options{}, err
	}
	st, err := local.Open(filepath.Join(dir, "store"))
	return publisher.Options{
		Store: unsynced{st}, Keys: keys, TempDir: filepath.Join(dir, "tmp"), IndexDir: filepath.Join(dir, "index"), Workers: 1, AutoTags: 1 << 40,
		Now: func() time.Time { return time.Unix(1700000000, 0) }, // a channel's record has times
	}, err
}

// second publishes the second version and moves the channel to it, in one
// revision.
func second(ctx context.Context, dir string, o publisher.Options) (*publisher.Result, uint64, error) {
	p, err := publisher.Open(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	all, rev, err := p.Apply(ctx, "second", []publisher.Step{
		&publisher.Put{Name: "two", Kind: "rootfs", Open: func(ctx context.Context) (publisher.Job, error) {
			src, err := source.OpenRootfs(ctx, filepath.Join(dir, "two.tar"), source.Options{})
			return publisher.Job{Reference: demo.WithVersion("2"), Source: src}, err
		}},
		&publisher.Point{Channel: demo.WithChannel("stable")},
	}, nil)
	if err != nil {
		return nil, 0, err
	}
	return all[0].Result, rev, errors.Join(all[0].Err, all[1].Err)
}

func publishUntilKilled(dir string) error {
	o, err := victim(dir)
	if err != nil {
		return err
	}
	at, err := strconv.Atoi(os.Getenv(killAt))
	if err != nil {
		return err
	}
	k := &killing{Store: o.Store, during: os.Getenv(killDuring) != ""}
	k.left.Store(int64(at))
	o.Store = k
	_, _, err = second(context.Background(), dir, o)
	return err
}

// contentsOf names the objects of files in a store.
func contentsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	must(t, filepath.WalkDir(filepath.Join(dir, "store", "data"), func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(filepath.Join(dir, "store"), path)
		if h, typ, ok := object.ParsePath(rel); err == nil && !d.IsDir() && ok && (typ == object.Bulk || typ == object.Partial) {
			all[h.String()] = true
		}
		return err
	}))
	return all
}

// A publisher that is killed at any write, or in it, leaves a repository at the
// old or the new revision with nothing wrong in it, and the next one does what is
// left to do.
func TestKilledAtEveryWrite(t *testing.T) {
	k, err := keys()
	must(t, err)
	base := inMemory(t)
	must(t, k.Write(filepath.Join(base, "keys"), master))
	for _, d := range []string{"tmp", "index"} {
		must(t, os.Mkdir(filepath.Join(base, d), 0o700))
	}
	must(t, os.WriteFile(filepath.Join(base, "two.tar"), tarOf(t, "a=1", "b=new", "c/d=newer"), 0o600))
	st, err := local.Create(filepath.Join(base, "store"))
	must(t, err)
	o, err := victim(base)
	must(t, err)
	must(t, publisher.Init(t.Context(), o, publisher.Settings{Compression: object.Zstd, Algorithm: object.SHAKE128}, master))
	p, err := publisher.Open(t.Context(), o)
	must(t, err)
	src := rootfs(t, "a=1", "b=2", "gone=3")
	_, err = p.Publish(t.Context(), publisher.Job{Reference: demo.WithVersion("1"), Source: src})
	must(t, errors.Join(err, src.Close()))
	_, err = p.SetChannel(t.Context(), demo.WithChannel("stable"), "1")
	must(t, err)
	st.Close()
	before := contentsOf(t, base)

	whole := clone(t, base)
	o, err = victim(whole)
	must(t, err)
	want, rev, err := second(t.Context(), whole, o)
	must(t, err)
	after := contentsOf(t, whole)
	outcomes := map[uint64]int{}
	for _, during := range []string{"", "yes"} {
		n := 1
		for ; ; n++ {
			dir := clone(t, base)
			if !killed(t, dir, n, during) {
				break
			}
			at := inspect(t, dir, want.Tree, rev)
			outcomes[at]++
			stored := contentsOf(t, dir)
			o, err := victim(dir)
			must(t, err)
			r, got, err := second(t.Context(), dir, o)
			if err != nil {
				t.Fatalf("killed at write %d, the next run: %v", n, err)
			}
			if got != rev || r.Tree != want.Tree || r.Unchanged != (at == rev) {
				t.Errorf("killed at write %d, the next run made revision %d, tree %s, %+v", n, got, r.Tree, r)
			}
			if fresh := len(after) - len(stored); at != rev && r.NewObjects > int64(fresh) {
				t.Errorf("killed at write %d with %d of %d objects, of which %d were old: the next run stored %d", n, len(stored), len(after), len(before), r.NewObjects)
			}
			if done := contentsOf(t, dir); !maps.Equal(done, after) {
				t.Errorf("killed at write %d: in the end %d objects, undisturbed %d", n, len(done), len(after))
			}
			inspect(t, dir, want.Tree, rev)
			must(t, os.RemoveAll(dir))
		}
		if n < 15 {
			t.Errorf("a publisher made only %d writes", n)
		}
	}
	if outcomes[rev-1] == 0 {
		t.Errorf("no kill left the old revision: %v", outcomes)
	}
}

// killed runs a publisher that dies at its n-th write, and reports false for one
// that has fewer.
func killed(t *testing.T, dir string, n int, during string) bool {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe) // #nosec G204 -- ourselves
	cmd.Env = append(os.Environ(), killDir+"="+dir, killAt+"="+strconv.Itoa(n), killDuring+"="+during)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the publisher ended with %v: %s", err, out)
	}
	return true
}

// inspect proves that the repository is whole and returns its revision: the last
// with what it had, or the new one with all that is new.
func inspect(t *testing.T, dir, tree string, rev uint64) uint64 {
	t.Helper()
	st, err := local.Open(filepath.Join(dir, "store"))
	must(t, err)
	defer st.Close()
	r, err := check.Run(t.Context(), check.Options{Store: st, TempDir: t.TempDir(), Now: func() time.Time { return time.Unix(1700000000, 0) }, Found: func(f check.Finding) {
		if !f.Warning { // of a log that knows more than the manifest, which the next publish takes up
			t.Errorf("%v", f)
		}
	}})
	must(t, err)
	if !r.Clean() {
		t.Errorf("%d findings", r.Findings)
	}
	all, err := publisher.List(t.Context(), st, t.TempDir())
	must(t, err)
	at, err := publisher.Find(t.Context(), st, t.TempDir(), demo.WithChannel("stable"))
	must(t, err)
	switch {
	case r.Revision == rev-1 && len(all) == 1 && at.Reference.Version == "1":
	case r.Revision == rev && len(all) == 2 && at.Reference.Version == "2" && at.Tree == tree:
	default:
		t.Errorf("revision %d has %d versions, and the channel leads to %s", r.Revision, len(all), at.Reference)
	}
	return r.Revision
}

// inMemory is a directory for a test that survives no power cut anyhow.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "rootstock-kill-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// clone copies a directory.
func clone(t *testing.T, dir string) string {
	t.Helper()
	to := inMemory(t)
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o755) // #nosec G301
		}
		in, err := os.Open(path) // #nosec G304
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(to, rel)) // #nosec G304
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	}))
	return to
}

var demo = reference.Reference{Kind: reference.Rootfs, Name: "demo"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
