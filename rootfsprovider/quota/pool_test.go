package quota_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/rootstock-cf/rootstock/rootfsprovider/quota"
)

// pooled is a loop backend with a pool of two.
func pooled(t *testing.T) (l quota.Loop, dir func(name string) string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: loop devices need root")
	}
	store := t.TempDir()
	l = quota.Loop{Images: filepath.Join(store, "images"), Pool: quota.Pool{Dir: filepath.Join(store, "pool"), Size: 2}}
	return l, func(name string) string {
		d := filepath.Join(store, name)
		must(t, os.Mkdir(d, 0o755))
		t.Cleanup(func() { must(t, l.Remove(context.Background(), d)) })
		return d
	}
}

func ready(t *testing.T, p quota.Pool) int {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(p.Dir, "*", "*.ext4"))
	must(t, err)
	return len(all)
}

func TestPool(t *testing.T) {
	l, dir := pooled(t)
	const limit = 1 << 20
	if l.Pool.Wanting() {
		t.Error("a pool wants something before anything was asked for")
	}
	must(t, l.Prepare(t.Context(), dir("a"), limit))
	if !l.Pool.Wanting() || ready(t, l.Pool) != 0 {
		t.Error("the limit was not noted")
	}
	must(t, l.Pool.Fill(t.Context()))
	if l.Pool.Wanting() || ready(t, l.Pool) != 2 {
		t.Errorf("%d are ready", ready(t, l.Pool))
	}
	// No mkfs: what is taken was there before.
	t.Setenv("PATH", t.TempDir())
	b := dir("b")
	must(t, l.Prepare(t.Context(), b, limit))
	if ready(t, l.Pool) != 1 || !l.Pool.Wanting() {
		t.Errorf("%d are ready after one was taken", ready(t, l.Pool))
	}
	if got := fill(t, filepath.Join(b, "big")); got < limit-32<<10 || got > limit+128<<10 {
		t.Errorf("full after %d bytes", got)
	}
	// Another limit has file systems of its own.
	must(t, os.Unsetenv("PATH"))
	c := dir("c")
	must(t, l.Prepare(t.Context(), c, 2*limit))
	if got := fill(t, filepath.Join(c, "big")); got < 2*limit-32<<10 {
		t.Errorf("full after %d bytes of %d", got, 2*limit)
	}
}

func TestPoolIsBounded(t *testing.T) {
	l, dir := pooled(t)
	for i := range 10 {
		must(t, l.Prepare(t.Context(), dir(fmt.Sprint(i)), int64(1+i)<<20))
	}
	must(t, os.WriteFile(filepath.Join(l.Pool.Dir, fmt.Sprint(10<<20), "0.ext4.new"), nil, 0o600)) // of a Fill that died
	must(t, l.Pool.Drain(t.Context()))
	if all, err := filepath.Glob(filepath.Join(l.Pool.Dir, "*", "*.new")); err != nil || len(all) > 0 {
		t.Errorf("left: %v, %v", all, err)
	}
	if limits, err := filepath.Glob(filepath.Join(l.Pool.Dir, "[0-9]*")); err != nil || len(limits) != 8 {
		t.Errorf("%d limits are kept ready, %v", len(limits), err)
	}
	l.Pool.Size = 0
	must(t, l.Pool.Drain(t.Context()))
	if _, err := os.Stat(l.Pool.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pool that is off: %v", err)
	}
}

// Of those that take at a time, each gets another.
func TestPoolConcurrently(t *testing.T) {
	l, dir := pooled(t)
	must(t, l.Prepare(t.Context(), dir("first"), 1<<20))
	must(t, l.Pool.Fill(t.Context()))
	dirs := []string{dir("a"), dir("b"), dir("c"), dir("d")}
	failed := make(chan error)
	for i, d := range dirs {
		go func() {
			if i == 0 {
				if err := l.Pool.Fill(t.Context()); err != nil {
					failed <- err
					return
				}
			}
			failed <- l.Prepare(t.Context(), d, 1<<20)
		}()
	}
	for range dirs {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}
