package catalog_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
)

const benchRows = 44_000

type namedEntry struct {
	path string
	*catalog.Entry
}

// distribution returns entries shaped like a Debian root file system: the
// number of rows given, eight files to a directory, five levels.
func distribution(rows int) []namedEntry {
	all := []namedEntry{{"", dir(0)}}
	dirs := []string{""}
	for i := 1; len(all) < rows; i++ {
		parent := dirs[(i*7919)%((len(dirs)+3)/4)]
		d := fmt.Sprintf("%s/directory-%d", parent, i)
		dirs = append(dirs, d)
		all = append(all, namedEntry{d, dir(0)})
		for f := 0; f < 8 && len(all) < rows; f++ {
			path := fmt.Sprintf("%s/lib%d-some-file.so.%d", d, f, i)
			e := file(int64(i * f))
			e.Hash = object.SHAKE128.Sum([]byte(path))
			if f == 7 {
				e = &catalog.Entry{Mode: 0o120777, Size: 11, MTime: 3, MTimeNS: -1, Links: 1, Symlink: "../lib/file"}
			}
			all = append(all, namedEntry{path, e})
		}
	}
	return all
}

func write(t testing.TB, path string, entries []namedEntry) {
	t.Helper()
	w, err := catalog.Create(path, catalog.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Add(e.path, e.Entry); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := w.Finish(catalog.Revision{Number: 1}); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkWriter(b *testing.B) {
	entries := distribution(benchRows)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		write(b, filepath.Join(b.TempDir(), "catalog"), entries)
	}
}

func BenchmarkCompile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "catalog")
	write(b, path, distribution(benchRows))
	b.ReportAllocs()
	for b.Loop() {
		r, err := catalog.OpenReader(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := catalog.Compile(b.Context(), r, path+".index"); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	path := filepath.Join(b.TempDir(), "catalog")
	write(b, path, distribution(benchRows))
	r := openReader(b, path)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Scan(b.Context(), func(catalog.Row) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenIndex(b *testing.B) {
	path := filepath.Join(b.TempDir(), "catalog")
	write(b, path, distribution(benchRows))
	if err := catalog.Compile(b.Context(), openReader(b, path), path+".index"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		x, err := catalog.OpenIndex(path + ".index")
		if err != nil {
			b.Fatal(err)
		}
		if err := x.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	entries := distribution(benchRows)
	path := filepath.Join(b.TempDir(), "catalog")
	write(b, path, entries)
	x := compile(b, openReader(b, path))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e := entries[i*7919%len(entries)]
		if _, ok := x.Find(e.path); !ok {
			b.Fatal(e.path)
		}
	}
}

func BenchmarkChildAndStat(b *testing.B) {
	path := filepath.Join(b.TempDir(), "catalog")
	write(b, path, distribution(benchRows))
	x := compile(b, openReader(b, path))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		row := uint32(1 + i*7919%(x.Len()-1))
		got, ok := x.Child(x.Parent(row), x.Name(row))
		if !ok || got != row || x.Stat(got).Mode == 0 {
			b.Fatal(row)
		}
	}
}
