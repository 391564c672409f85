package publisher_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

func put(t *testing.T, version string, files ...string) *publisher.Put {
	return &publisher.Put{Name: version, Kind: reference.Rootfs, Open: func(context.Context) (publisher.Job, error) {
		return publisher.Job{Reference: demo.WithVersion(version), Source: rootfs(t, files...)}, nil
	}}
}

// once is a store that fails to take one object, once: the n-th that is put.
type once struct {
	store.Store
	left atomic.Int64
}

func (o *once) Put(ctx context.Context, name string, data []byte) error {
	if o.left.Add(-1) == 0 {
		return errFull
	}
	return o.Store.Put(ctx, name, data)
}

// Whichever write fails once, either its step fails and the other is published,
// or, where the write was of both, nothing is.
func TestStepsFailAlone(t *testing.T) {
	s := newSite(t)
	s.o.Workers = 1
	whole := s.o.Store
	alone, none := 0, 0
	for n := 1; ; n++ {
		o := &once{Store: whole}
		o.left.Store(int64(n))
		s.o.Store = o
		v := string(rune('a' + n%26))
		a, b := "1"+v+strings.Repeat("x", n/26), "2"+v+strings.Repeat("x", n/26)
		all, rev, err := s.open().Apply(t.Context(), "two", []publisher.Step{put(t, a, "a="+a), put(t, b, "b="+b)}, nil)
		if o.left.Load() > 0 {
			break // there are fewer writes
		}
		list, lerr := publisher.List(t.Context(), whole, t.TempDir())
		s.must(lerr)
		has := func(version string) bool {
			for _, l := range list {
				if l.Reference.Version == version {
					return true
				}
			}
			return false
		}
		if err != nil {
			if none++; !errors.Is(err, errFull) || has(a) || has(b) {
				t.Fatalf("write %d failed: %v, %v %v", n, err, has(a), has(b))
			}
			continue
		}
		alone++
		if failed := all[0].Err != nil; failed == (all[1].Err != nil) || has(a) == failed || has(b) == !failed || rev == 0 {
			t.Fatalf("write %d failed: %v and %v, in the repository %v %v", n, all[0].Err, all[1].Err, has(a), has(b))
		}
	}
	if alone == 0 || none == 0 {
		t.Errorf("%d writes were of one step, %d of both", alone, none)
	}
}

// What the batch names is not removed by it, nor what a channel points to.
func TestKeep(t *testing.T) {
	s := newSite(t)
	for _, v := range []string{"1", "2", "3", "4"} {
		s.mustPublish("rootfs/demo@"+v, rootfs(t, "v="+v))
	}
	_, err := s.open().SetChannel(t.Context(), demo.WithChannel("old"), "2")
	s.must(err)
	steps := []publisher.Step{put(t, "1", "v=1"), &publisher.Keep{Kind: reference.Rootfs, Names: "de*", Versions: 1}}
	for _, apply := range []func() ([]publisher.Outcome, uint64, error){
		func() ([]publisher.Outcome, uint64, error) { return s.open().Rehearse(t.Context(), steps, nil) },
		func() ([]publisher.Outcome, uint64, error) { return s.open().Apply(t.Context(), "keep", steps, nil) },
	} {
		all, _, err := apply()
		s.must(err)
		if all[1].Err != nil || len(all[1].Removed) != 1 || all[1].Removed[0].Reference.Version != "3" {
			t.Errorf("removed %+v, %v", all[1].Removed, all[1].Err)
		}
	}
	for _, bad := range []publisher.Step{
		&publisher.Keep{Kind: reference.Rootfs, Names: "demo"}, &publisher.Keep{Kind: reference.Rootfs, Names: "[", Versions: 1},
	} {
		if all, _, err := s.open().Apply(t.Context(), "keep", []publisher.Step{bad}, nil); err != nil || all[0].Err == nil {
			t.Errorf("%s: %v, %+v", bad, err, all)
		}
	}
}
