package gc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/publisher/gc"
	"github.com/rootstock-cf/rootstock/store"
)

// phantom is a store with a number of objects that exist by name only.
type phantom struct {
	store.Store // the format's own files
	store.AgedLister
	store.Deleter
	names   [256][]object.Hash
	mu      sync.Mutex
	deleted int
}

// digest spreads n evenly over all prefixes.
func digest(n int) object.Hash {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	return object.SHA1.Sum(b[:])
}

func (p *phantom) ListAged(ctx context.Context, prefix string, yield func(string, int64, time.Time) error) error {
	if err := p.AgedLister.ListAged(ctx, prefix, yield); err != nil {
		return err
	}
	var xx int
	if _, err := fmt.Sscanf(prefix, "data/%02x/", &xx); err != nil {
		return err
	}
	for _, h := range p.names[xx] {
		if err := yield(object.Path(h, object.Bulk), 1000, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

func (p *phantom) Delete(context.Context, string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deleted++
	return nil
}

// BenchmarkMillion collects a repository of a million objects, half of them in
// use, in trees of 50,000 files. Of the time, reading the catalogs and sorting
// the names is real; naming and deleting the objects costs what the store
// takes.
func BenchmarkMillion(b *testing.B) {
	const million, perTree = 1_000_000, 50_000
	s := testsite.New(b, settings)
	p := &phantom{Store: s.Store, AgedLister: s.Store, Deleter: s.Store}
	for i := range million {
		h := digest(i)
		p.names[h.Digest[0]] = append(p.names[h.Digest[0]], h)
	}
	link(b, s, million/2, perTree)
	b.ReportAllocs()
	for b.Loop() {
		p.deleted = 0
		done := make(chan uint64)
		stop := make(chan struct{})
		go peak(stop, done)
		r, err := gc.Collect(b.Context(), gc.Options{
			Store: p, Keys: s.Keys, Leases: gc.NewLeases(s.Now()), Now: s.Now, TempDir: b.TempDir(),
		})
		if err != nil {
			b.Fatal(err)
		}
		close(stop)
		b.ReportMetric(float64(<-done)/(1<<20), "MiB-RSS")
		if p.deleted != million/2 || r.Kept < million/2 {
			b.Fatalf("deleted %d, %+v", p.deleted, r)
		}
	}
}

// peak returns the largest resident set seen until stop, in bytes.
func peak(stop <-chan struct{}, done chan<- uint64) {
	var most uint64
	for {
		select {
		case <-stop:
			done <- most
			return
		case <-time.After(20 * time.Millisecond):
			raw, err := os.ReadFile("/proc/self/statm")
			if err != nil {
				continue
			}
			var size, resident uint64
			if _, err := fmt.Sscan(string(bytes.TrimSpace(raw)), &size, &resident); err == nil {
				most = max(most, resident*uint64(os.Getpagesize()))
			}
		}
	}
}

// link makes the newest revision one of trees whose files are the first n
// objects.
func link(b *testing.B, s *testsite.Site, n, perTree int) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	finish := func(w *catalog.Writer, file string) (object.Hash, int64) {
		_, _, err := w.Finish(catalog.Revision{Number: 2})
		must(err)
		plain, err := os.ReadFile(file)
		must(err)
		stored, err := codec.Encode(object.Zlib, nil, plain)
		must(err)
		h := settings.Algorithm.Sum(stored)
		s.Write(object.Path(h, object.Catalog), stored)
		return h, int64(len(plain))
	}
	dir := b.TempDir()
	rootFile := filepath.Join(dir, "root")
	root, err := catalog.Create(rootFile, catalog.CreateOptions{})
	must(err)
	directory := catalog.Entry{Mode: catalog.ModeDir | 0o755, Size: 4096, Links: 2, MTimeNS: catalog.NoNanoseconds}
	must(root.Add("", &directory))
	for t := range n / perTree {
		mount := fmt.Sprintf("/t%d", t)
		file := filepath.Join(dir, fmt.Sprint("tree", t))
		w, err := catalog.Create(file, catalog.CreateOptions{RootPrefix: mount})
		must(err)
		e := directory
		e.Flags = catalog.NestedRoot
		must(w.Add(mount, &e))
		for i := range perTree {
			must(w.Add(fmt.Sprintf("%s/f%d", mount, i), &catalog.Entry{
				Mode: catalog.ModeRegular | 0o644, Links: 1, Size: 1000, Hash: digest(t*perTree + i), MTimeNS: catalog.NoNanoseconds,
			}))
		}
		h, size := finish(w, file)
		e.Flags = catalog.NestedMountpoint
		must(root.Add(mount, &e))
		must(root.SetNested(catalog.Nested{Path: mount, Hash: h, Size: size}))
	}
	h, size := finish(root, rootFile)
	s.Adopt(func(m *manifest.Manifest) { m.RootCatalog, m.CatalogSize = h, size })
	s.History("UPDATE tags SET hash = '" + h.String() + "' WHERE name = '" + history.Trunk + "'")
}
