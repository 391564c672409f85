package testrepo_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// What is made verifies, and what did not change keeps its name.
func TestPublish(t *testing.T) {
	r := testrepo.New(t, testrepo.Options{})
	tree := testrepo.Tree{"/n": testrepo.Nested(), "/n/file": testrepo.Text("x"), "/other": testrepo.Text("y")}
	first := r.Publish(tree)
	before := len(r.Names("data/"))
	tree["/other"] = testrepo.Text("z")
	if second := r.Publish(tree); second == first {
		t.Error("another tree has the same root catalog")
	}
	// A root catalog and a file: the nested catalog is the same object.
	if n := len(r.Names("data/")) - before; n != 2 {
		t.Errorf("%d new objects, want 2", n)
	}
	cert := func(context.Context, object.Hash) ([]byte, error) { return certificate(t, r), nil }
	v, err := r.Trust().Verify(t.Context(), r.Name, r.Get(manifest.FileName), r.Get(manifest.WhitelistName), cert, time.Now())
	if err != nil || v.Manifest != r.Head() || v.Manifest.Revision != 2 {
		t.Errorf("%+v, %v", v, err)
	}
}

func certificate(t *testing.T, r *testrepo.Repo) []byte {
	t.Helper()
	h := r.Head().Certificate
	stored := r.Get(object.Path(h, object.Certificate))
	var plain bytes.Buffer
	want := codec.Expect{Hash: h, Compression: object.Zlib, Size: -1, Limit: 1 << 16}
	if _, err := codec.Decode(&plain, bytes.NewReader(stored), want); err != nil {
		t.Fatal(err)
	}
	return plain.Bytes()
}
