package publisher_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/store"
)

// Clients refuse a time stamp that falls: a publisher whose clock went back
// keeps the one that was.
func TestPublishedNeverFalls(t *testing.T) {
	s := testsite.New(t, publisher.Settings{Compression: object.Zlib, Algorithm: object.SHAKE128})
	s.Rootfs("demo", "1", testsite.File("f", "one"))
	before := s.Head()
	s.Sleep(-3 * time.Hour)
	s.Rootfs("demo", "2", testsite.File("f", "two"))
	after := s.Head()
	if after.Published < before.Published || after.Revision != before.Revision+1 {
		t.Errorf("time stamp %d after %d, revision %d after %d", after.Published, before.Published, after.Revision, before.Revision)
	}
	// The reflog is the one the manifest names, and has both.
	if got := after.RootCatalog.Algorithm.Sum(s.Read(".cvmfsreflog")); got != after.Reflog {
		t.Errorf("the reflog is %s, the manifest names %s", got, after.Reflog)
	}
	s.Log(func(l *reflog.Log) {
		for _, h := range []object.Hash{before.RootCatalog, before.History, after.RootCatalog, after.History, after.Certificate, after.Metainfo} {
			if has, err := l.Has(h); err != nil || !has {
				t.Errorf("%s is not on the reflog: %v", h, err)
			}
		}
	})
}

// overtaken is a store whose manifest another publisher replaces just before
// the new one is swapped in, as one might whose lock was taken over.
type overtaken struct {
	store.Store
	by []byte
}

func (o *overtaken) Swap(ctx context.Context, name string, old, next []byte) error {
	if name == ".cvmfspublished" && o.by != nil {
		if err := o.Put(ctx, name, o.by); err != nil {
			return err
		}
	}
	return o.Store.Swap(ctx, name, old, next)
}

func TestManifestIsSwapped(t *testing.T) {
	s := testsite.New(t, publisher.Settings{Compression: object.Zlib, Algorithm: object.SHAKE128})
	s.Rootfs("demo", "1", testsite.File("f", "one"))
	head := s.Head()
	head.TTL++
	by, err := head.Sign(s.Keys.Release, head.RootCatalog.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	s.Options.Store = &overtaken{s.Store, by}
	if err := s.TryRootfs("demo", "2", testsite.File("f", "two")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the other's manifest is no conflict: %v", err)
	}
	if got := s.Read(".cvmfspublished"); string(got) != string(by) {
		t.Error("what the other published is lost")
	}
}
