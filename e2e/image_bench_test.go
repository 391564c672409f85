package e2e_test

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// benchEntries are as many as in the reference root file system of
// docs/design/image-tier.md.
const benchEntries = 44_000

// benchTree writes a tar of benchEntries names, most of them small files with a
// content of their own, 40 to a directory.
func benchTree(b *testing.B, path string) {
	b.Helper()
	f, err := os.Create(path)
	must(b, err)
	defer f.Close()
	w := tar.NewWriter(f)
	for i := range benchEntries - benchEntries/41 {
		data := fmt.Appendf(nil, "content of file %d\n", i)
		must(b, w.WriteHeader(&tar.Header{
			Name: fmt.Sprintf("d%02d/s%03d/file-%05d", i%97%20, i/40, i), Typeflag: tar.TypeReg,
			Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(1.7e9+int64(i), 0),
		}))
		_, err := w.Write(data)
		must(b, err)
	}
	must(b, w.Close())
}

// median runs f until the benchmark has seen enough, and reports the median of
// what it returns in milliseconds.
func median(b *testing.B, name string, f func(i int) time.Duration) {
	b.Run(name, func(b *testing.B) {
		var all []time.Duration
		for i := 0; b.Loop(); i++ {
			all = append(all, f(i))
		}
		slices.Sort(all)
		b.ReportMetric(0, "ns/op") // preparations are in it
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	})
}

func timed(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

// BenchmarkImageTier times what a cell does for a container on a tree of 44,000
// entries, through the real programs, each beside the same on ext4. Run it with
// -benchtime 10x; on a busy machine the medians still mean something.
func BenchmarkImageTier(b *testing.B) {
	needImageTier(b)
	s := newSite(b)
	archive := filepath.Join(s.dir, "tree.tar")
	benchTree(b, archive)
	s.publish(b, "rootfs", "tree", "1", archive)
	ref, err := reference.Parse("cvmfs://" + siteName + "/rootfs/tree@1")
	must(b, err)
	native := filepath.Join(s.dir, "native")
	must(b, os.Mkdir(native, 0o755))
	run(b, "", "tar", "-C", native, "-xf", archive)

	lower := func(c *cellDaemon, handle string) (control.Lower, time.Duration) {
		var l control.Lower
		d := timed(func() {
			var err error
			l, err = (&control.Client{Socket: c.dir + "/cell.sock"}).Lower(b.Context(), control.LowerRequest{Ref: ref, Handle: handle})
			must(b, err)
		})
		return l, d
	}
	release := func(c *cellDaemon, handle string) {
		must(b, (&control.Client{Socket: c.dir + "/cell.sock"}).Release(b.Context(), handle))
	}
	median(b, "lower/never-seen", func(int) time.Duration {
		c := s.cell(b, "--tier", "image")
		_, d := lower(c, "one")
		release(c, "one")
		c.stop()
		return d
	})
	median(b, "lower/never-seen-tree-tier", func(int) time.Duration {
		c := s.cell(b, "--tier", "tree")
		_, d := lower(c, "one")
		release(c, "one")
		c.stop()
		return d
	})
	c := s.cell(b, "--tier", "image")
	lower(c, "first")
	release(c, "first")
	median(b, "lower/image-cached", func(int) time.Duration {
		_, d := lower(c, "one")
		release(c, "one")
		return d
	})
	c.stop()
	c.start()
	_, d := lower(c, "kept")
	b.Logf("lower, image cached, first after a restart: %s", d)
	median(b, "lower/mounted", func(int) time.Duration {
		_, d := lower(c, "one")
		release(c, "one")
		return d
	})
	median(b, "create", func(i int) time.Duration {
		handle := fmt.Sprintf("h%d", i)
		d := timed(func() { c.create("plugin.json", "rootfs/tree@1", handle) })
		c.plugin("plugin.json", "delete", handle)
		return d
	})
	ext4 := control.Lower{Lower: []string{native}}
	l, _ := lower(c, "kept")
	for _, way := range []struct {
		name  string
		lower control.Lower
	}{{"image", l}, {"ext4", ext4}} {
		mount := func() (root string, leave func()) {
			root, leave = overlayOn(b, s.dir, way.lower)
			return root, leave
		}
		median(b, "overlay-mount/"+way.name, func(int) time.Duration {
			var leave func()
			d := timed(func() { _, leave = mount() })
			leave()
			return d
		})
		root, leave := mount()
		median(b, "walk-lstat/"+way.name, func(int) time.Duration { return timed(func() { lstatAll(b, root) }) })
		readAll(b, root) // all of it comes into the cache
		leave()
		root, leave = mount()
		median(b, "read-all/"+way.name, func(int) time.Duration { return timed(func() { readAll(b, root) }) })
		leave()
	}
	release(c, "kept")
	c.stop()
}

// overlayOn mounts a container's root as the plugin does.
func overlayOn(b *testing.B, dir string, l control.Lower) (root string, leave func()) {
	b.Helper()
	dir, err := os.MkdirTemp(dir, "overlay-")
	must(b, err)
	for _, d := range []string{"upper", "work", "rootfs"} {
		must(b, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(b, overlay.Mount(overlay.Layers{
		Lower: l.Lower, Data: l.Data, Options: l.Options, Upper: dir + "/upper", Work: dir + "/work",
	}, dir+"/rootfs"))
	return dir + "/rootfs", func() { must(b, unix.Unmount(dir+"/rootfs", 0)) }
}

func lstatAll(b *testing.B, root string) {
	n := 0
	must(b, filepath.WalkDir(root, func(_ string, d os.DirEntry, err error) error {
		if err == nil {
			_, err = d.Info()
		}
		n++
		return err
	}))
	if n < benchEntries {
		b.Fatalf("%d entries", n)
	}
}

func readAll(b *testing.B, root string) {
	must(b, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			_, err = os.ReadFile(path)
		}
		return err
	}))
}
