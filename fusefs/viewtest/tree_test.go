package viewtest_test

import (
	"testing"

	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

var _ tree.View = (*viewtest.Tree)(nil)

func TestTreeKeepsTheRules(t *testing.T) {
	v := viewtest.New()
	v.Add("/a/b/file", viewtest.File{Mode: 0o644, Data: []byte("some forty bytes of content, more or less")})
	v.Add("/a/empty", viewtest.File{Mode: 0o600})
	v.Add("/a/link", viewtest.File{Mode: 0o120777, Target: "b/file"})
	v.Add("/dev/null", viewtest.File{Mode: 0o020666, Rdev: 0x103})
	v.Add("/caps", viewtest.File{Mode: 0o755, XAttrs: map[string]string{"security.capability": "x"}})
	v.Link("/a/b/file", "/a/other")
	viewtest.Run(t, v)
}

func TestRevisionsDoNotChange(t *testing.T) {
	v := viewtest.New()
	v.Add("/same/file", viewtest.File{Data: []byte("1")})
	v.Add("/other/file", viewtest.File{Data: []byte("1")})
	root := v.Root()
	same, _ := v.Node("/same")
	other, _ := v.Node("/other")

	v.Revise()
	v.Add("/other/file", viewtest.File{Data: []byte("22")})
	if v.Root() == root {
		t.Error("a new revision has the old root")
	}
	if n, _ := v.Node("/same"); n != same {
		t.Error("an unchanged directory became another node")
	}
	if n, _ := v.Node("/other"); n == other {
		t.Error("a changed directory is the same node")
	}
	old, _, err := v.Lookup(t.Context(), other, "file")
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := v.Attr(t.Context(), old); a.Size != 1 {
		t.Errorf("file of the old revision has %d bytes, want 1", a.Size)
	}
	viewtest.Run(t, v)
}
