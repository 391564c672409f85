package objects_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/objects"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
)

func newFS(t testing.TB, s objects.Source, file string, adopt bool) *objects.FS {
	t.Helper()
	f, err := objects.New(s, objects.Options{Numbers: file, Adopt: adopt})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// lookup finds a content as the kernel does.
func lookup(t testing.TB, f *objects.FS, id object.ContentID) (node, size uint64) {
	t.Helper()
	path := id.CachePath()
	var dir, file fuse.EntryOut
	if err := f.Lookup(t.Context(), fusefs.RootID, path[:2], &dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Lookup(t.Context(), dir.NodeId, path[3:], &file); err != nil {
		t.Fatal(err)
	}
	return file.NodeId, file.Size
}

func many(s *source, n int) (ids []object.ContentID) {
	for i := range n {
		ids = append(ids, s.add(binary.BigEndian.AppendUint32(nil, uint32(i))))
	}
	return ids
}

func TestNumbersOutliveTheProcess(t *testing.T) {
	s := newSource()
	ids := many(s, 5000)
	file := filepath.Join(t.TempDir(), "numbers")
	f := newFS(t, s, file, false)
	want := map[object.ContentID]uint64{}
	seen := map[uint64]bool{}
	for _, id := range ids {
		n, _ := lookup(t, f, id)
		if want[id] = n; seen[n] {
			t.Fatalf("node %d is two contents", n)
		}
		seen[n] = true
	}
	// The process dies in the middle of a record.
	raw, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.WriteString("half"); err != nil {
		t.Fatal(err)
	}
	raw.Close()

	g := newFS(t, newSource(), file, true) // no tree is known yet
	var out fuse.AttrOut
	for id, n := range want {
		if err := g.Attr(t.Context(), n, &out); err != nil || out.Size != 4 {
			t.Fatalf("node %d of %s: %d bytes, %v", n, id, out.Size, err)
		}
	}
	if err := g.Attr(t.Context(), 258+5000, &out); !errors.Is(err, view.ErrStale) {
		t.Errorf("node that was never handed out: %v", err)
	}
	g.Close()
	g = newFS(t, s, file, true)
	defer g.Close()
	for id, n := range want {
		if got, _ := lookup(t, g, id); got != n {
			t.Fatalf("%s is node %d, was %d", id, got, n)
		}
		buf := make([]byte, 8)
		if k, err := g.ReadAt(t.Context(), n, buf, 0); err != nil || object.ContentOf(buf[:k]) != id {
			t.Fatalf("node %d reads %x, %v", n, buf[:k], err)
		}
	}
	if n, _ := lookup(t, g, s.add([]byte("new"))); seen[n] {
		t.Errorf("node %d was another content's", n)
	}
	// A new mount begins anew.
	h := newFS(t, s, file, false)
	defer h.Close()
	if n, _ := lookup(t, h, ids[4999]); n != 258 {
		t.Errorf("first node of a new mount is %d", n)
	}
}

// What one tree lies about must not stay once an honest one is there.
func TestAnotherSizeIsAnotherNode(t *testing.T) {
	s := newSource([]byte("content"))
	f := newFS(t, s, filepath.Join(t.TempDir(), "numbers"), false)
	defer f.Close()
	id := object.ContentOf([]byte("content"))
	s.lie = 1
	lied, size := lookup(t, f, id)
	s.lie = 0
	honest, right := lookup(t, f, id)
	if lied == honest || size != 8 || right != 7 {
		t.Errorf("nodes %d of %d bytes and %d of %d bytes", lied, size, honest, right)
	}
}

func TestNumbersConcurrently(t *testing.T) {
	s := newSource()
	ids := many(s, 3000)
	f := newFS(t, s, filepath.Join(t.TempDir(), "numbers"), false)
	defer f.Close()
	var results [4][]uint64
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			for _, id := range ids {
				n, _ := lookup(t, f, id)
				results[i] = append(results[i], n)
			}
		})
	}
	wg.Wait()
	for i := range ids {
		for _, r := range results {
			if r[i] != results[0][i] {
				t.Fatalf("content %d has nodes %d and %d", i, r[i], results[0][i])
			}
		}
	}
}

// A disk that takes no more must not keep anybody from reading.
func TestNumbersOnFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, 0)
	s := newSource()
	ids := many(s, 4000) // 160,000 bytes of records
	f := newFS(t, s, filepath.Join(dir, "numbers"), false)
	defer f.Close()
	nodes := map[object.ContentID]uint64{}
	for _, id := range ids {
		nodes[id], _ = lookup(t, f, id)
	}
	for id, n := range nodes {
		if again, _ := lookup(t, f, id); again != n {
			t.Fatalf("%s is node %d, was %d", id, again, n)
		}
		buf := make([]byte, 4)
		if _, err := f.ReadAt(t.Context(), n, buf, 0); err != nil || object.ContentOf(buf) != id {
			t.Fatalf("node %d: %x, %v", n, buf, err)
		}
	}
}

func TestNumbersNeedTheirFile(t *testing.T) {
	_, err := objects.New(newSource(), objects.Options{Numbers: filepath.Join(t.TempDir(), "absent", "numbers")})
	if err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("%v does not name the file", err)
	}
}

func TestClosed(t *testing.T) {
	s := newSource([]byte("content"))
	f := newFS(t, s, filepath.Join(t.TempDir(), "numbers"), false)
	id := object.ContentOf([]byte("content"))
	n, _ := lookup(t, f, id)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var e fuse.EntryOut
	var a fuse.AttrOut
	for what, err := range map[string]error{
		"lookup": f.Lookup(t.Context(), 2, id.CachePath()[3:], &e),
		"attr":   f.Attr(t.Context(), n, &a),
		"read":   func() error { _, err := f.ReadAt(t.Context(), n, make([]byte, 7), 0); return err }(),
	} {
		if fusefs.Errno(err) != fuse.EIO {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	s := newSource()
	ids := many(s, 40_000)
	f := newFS(b, s, filepath.Join(b.TempDir(), "numbers"), false)
	defer f.Close()
	var dir, out fuse.EntryOut
	i := 0
	for b.Loop() {
		path := ids[i%len(ids)].CachePath()
		if err := f.Lookup(b.Context(), fusefs.RootID, path[:2], &dir); err != nil {
			b.Fatal(err)
		}
		if err := f.Lookup(b.Context(), dir.NodeId, path[3:], &out); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
