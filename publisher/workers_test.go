package publisher_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
)

// The same source makes the same tree of the same objects, however many work
// on it, remembered or not. (Catalogs carry times.)
func TestWorkersMakeTheSame(t *testing.T) {
	var files []string
	for i := range 300 {
		files = append(files, fmt.Sprintf("d%d/f%d=%s", i%7, i, strings.Repeat(fmt.Sprint(i%100, " "), i)))
	}
	files = append(files, "large="+string(bytes.Repeat([]byte("0123456789abcdef"), 1<<20))) // is cut
	var tree string
	var objects []string
	for _, workers := range []int{1, 2, 5} {
		for _, memory := range []bool{false, true} {
			s := newSite(t)
			s.o.Workers = workers
			if memory {
				s.remembering()
			} else {
				s.o.IndexDir = ""
			}
			got := s.mustPublish("rootfs/x@1", rootfs(t, files...)).Tree
			found := map[string]bool{}
			err := s.o.Store.(store.Lister).List(t.Context(), "data/", func(name string, _ int64) error {
				if _, typ, ok := object.ParsePath(name); ok && (typ == object.Bulk || typ == object.Partial) {
					found[name] = true
				}
				return nil
			})
			s.must(err)
			all := slices.Sorted(maps.Keys(found))
			if tree == "" {
				tree, objects = got, all
			}
			if got != tree || !slices.Equal(all, objects) {
				t.Errorf("%d workers, memory %t: tree %s of %d objects, with one %s of %d", workers, memory, got, len(all), tree, len(objects))
			}
		}
	}
}
