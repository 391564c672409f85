package image_test

import (
	"testing"

	"github.com/rootstock-cf/rootstock/client"
)

// compile makes a directory, below the root of a catalog, into a tree.
func compile(t testing.TB, r *client.Repository, catalog, below string) (*client.Compiled, error) {
	t.Helper()
	at, err := r.Tree(t.Context(), catalog)
	check(t, err)
	return r.Compile(t.Context(), client.Directory{Catalog: at.Catalog, Size: at.Size, Path: below})
}
