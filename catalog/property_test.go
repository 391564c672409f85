package catalog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// anyEntry draws something other than a directory.
func anyEntry(t *rapid.T) *catalog.Entry {
	e := &catalog.Entry{
		Mode: rapid.Uint32Range(0, 0o7777).Draw(t, "mode"), UID: rapid.Uint32().Draw(t, "uid"),
		MTime: rapid.Int64().Draw(t, "mtime"), MTimeNS: rapid.Int32Range(-1, 999_999_999).Draw(t, "ns"),
		Links: rapid.Uint32Range(1, 1<<32-1).Draw(t, "links"), Group: rapid.Uint32().Draw(t, "group"),
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "xattrs") {
		e.XAttrs = append(e.XAttrs, catalog.XAttr{
			Name: fmt.Sprintf("user.%d", i), Value: rapid.SliceOfN(rapid.Byte(), 0, 255).Draw(t, "value"),
		})
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		e.Mode |= catalog.ModeSymlink
		e.Symlink = "t" + rapid.StringMatching(`[a-z/.$()]{0,20}`).Draw(t, "target")
		e.Size = int64(len(e.Symlink))
	case 1:
		e.Mode |= catalog.ModeChar
		e.Size = rapid.Int64Range(0, 1<<40).Draw(t, "rdev")
	default:
		e.Mode |= catalog.ModeRegular
		e.Algorithm = object.Algorithm(rapid.IntRange(1, 3).Draw(t, "algorithm"))
		e.Compression = object.Compression(rapid.IntRange(0, 2).Draw(t, "compression"))
		hash := func() object.Hash { return e.Algorithm.Sum(rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "content")) }
		for range rapid.IntRange(0, 3).Draw(t, "chunks") {
			c := catalog.Chunk{Offset: e.Size, Size: rapid.Int64Range(1, 1<<40).Draw(t, "chunk"), Hash: hash()}
			e.Chunks, e.Flags, e.Size = append(e.Chunks, c), catalog.Chunked, e.Size+c.Size
		}
		if e.Chunks == nil {
			e.Hash, e.Size = hash(), rapid.Int64Range(0, 1<<40).Draw(t, "size")
		}
		if rapid.Bool().Draw(t, "external") {
			e.Flags |= catalog.External
		}
	}
	return e
}

// Whatever is added, replaced and removed, in however many sessions: the rows
// are those of a map, the counters those of the rows, and row ids are dense.
func TestWriterAgainstModel(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		tmp, err := os.MkdirTemp(base, "")
		must(t, err)
		path := filepath.Join(tmp, "catalog")
		w, err := catalog.Create(path, catalog.CreateOptions{})
		must(t, err)
		model := map[string]*catalog.Entry{}
		put := func(p string, e *catalog.Entry) {
			must(t, w.Add(p, e))
			model[p] = e
		}
		put("", dir(0))
		name := rapid.SampledFrom([]string{"/a", "/b", "/c", "/d/a", "/d/b", "/d/\xff\xfe", "/d/é"})
		put("/d", dir(0))
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			p := name.Draw(rt, "path")
			switch _, there := model[p]; {
			case rapid.IntRange(0, 9).Draw(rt, "session") == 0:
				_, _, err := w.Finish(catalog.Revision{})
				must(t, err)
				w, err = catalog.OpenWriter(path)
				must(t, err)
			case !there:
				put(p, anyEntry(rt))
			case rapid.Bool().Draw(rt, "remove"):
				must(t, w.Remove(p))
				delete(model, p)
			default:
				e := anyEntry(rt)
				must(t, w.Replace(p, e))
				model[p] = e
			}
		}
		var want catalog.Counters
		for _, e := range model {
			want = want.Add(catalog.Of(e))
		}
		self, _, err := w.Finish(catalog.Revision{})
		must(t, err)
		if self != want {
			rt.Errorf("counters %+v, want %+v", self, want)
		}
		r, err := catalog.OpenReader(path)
		must(t, err)
		defer r.Close() //nolint:errcheck // a test's end
		got := map[string]*catalog.Entry{}
		for p, row := range rowsOf(t, r) {
			got[p] = &row.Entry
		}
		if diff := cmp.Diff(model, got, cmpopts.IgnoreFields(catalog.Entry{}, "Name"), cmpopts.EquateEmpty()); diff != "" {
			rt.Error(diff)
		}
		ids, root := rowIDs(t, r)
		if root != 1 || ids[len(ids)-1] != int64(len(ids)) {
			rt.Errorf("row ids %v, root %d", ids, root)
		}
		must(t, catalog.Compile(t.Context(), r, path+".index"))
	})
}
