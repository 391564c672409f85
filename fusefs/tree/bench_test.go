package tree_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

const benchFiles = 1000

func benchName(i int) string { return fmt.Sprintf("/d%d/f%d", i%20, i) }

// places are the same files on the file system of the temporary directory and in
// a tree.
func places(b *testing.B, size int) map[string]string {
	b.Helper()
	v, native := viewtest.New(), b.TempDir()
	data := pattern(size)
	for i := range benchFiles {
		v.Add(benchName(i), viewtest.File{Mode: 0o644, Data: data})
		name := filepath.Join(native, benchName(i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return map[string]string{"native": native, "tree": mount(b, v, fusefs.Options{}).dir}
}

func openReadClose(b *testing.B, name string, buf []byte) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := unix.Read(fd, buf); err != nil {
		b.Fatal(err)
	}
	if err := unix.Close(fd); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkHotSmallRead opens, reads and closes files of 11 KB that are in the
// page cache.
func BenchmarkHotSmallRead(b *testing.B) {
	for place, dir := range places(b, 11_000) {
		b.Run(place, func(b *testing.B) {
			names := make([]string, benchFiles)
			buf := make([]byte, 16<<10)
			for i := range names {
				names[i] = filepath.Join(dir, benchName(i))
				openReadClose(b, names[i], buf)
			}
			b.ResetTimer()
			for i := range b.N {
				openReadClose(b, names[i%benchFiles], buf)
			}
		})
	}
}

// BenchmarkLookup asks for names one after the other that the kernel has not
// asked for before, so that each is one LOOKUP.
func BenchmarkLookup(b *testing.B) {
	v := viewtest.New()
	v.Add("/d/f", viewtest.File{})
	for _, readers := range []int{1, 2} {
		b.Run(fmt.Sprintf("%d readers", readers), func(b *testing.B) {
			m := mount(b, v, fusefs.Options{Readers: readers})
			path := []byte(m.path("/d/"))
			var st unix.Stat_t
			before := m.conn.Stats().Requests
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if err := unix.Lstat(fmt.Sprintf("%s%d", path, i), &st); err != unix.ENOENT {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(m.conn.Stats().Requests-before)/float64(b.N), "requests/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
		})
	}
}

// BenchmarkSequentialRead reads a file that is not in the page cache.
func BenchmarkSequentialRead(b *testing.B) {
	const size = 64 << 20
	v := viewtest.New()
	v.Add("/large", viewtest.File{Data: make([]byte, size)})
	m := mount(b, v, fusefs.Options{})
	n, err := v.Node("/large")
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	b.SetBytes(size)
	for b.Loop() {
		if err := m.conn.InvalInode(uint64(n)+2, 0, 0); err != nil {
			b.Fatal(err)
		}
		fd, err := unix.Open(m.path("/large"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		for n := 1; n > 0; {
			if n, err = unix.Read(fd, buf); err != nil {
				b.Fatal(err)
			}
		}
		unix.Close(fd)
	}
}
