package client_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
)

var timeZero time.Time

func TestXAttrs(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{Expires: time.Now().Add(100 * time.Hour)})
	tagged := testrepo.Text("x")
	tagged.XAttrs = []catalog.XAttr{
		{Name: "security.capability", Value: []byte{1, 0, 2}},
		{Name: "user.fqrn", Value: []byte("stored wins")},
		{Name: "user.odd~1", Value: []byte("not a page")},
	}
	repo.Publish(testrepo.Tree{
		"/f": tagged, "/n": testrepo.Nested(), "/n/cut": testrepo.Chunks(pattern(9000), 4000), "/l": testrepo.Link("$(X)y"),
	})
	o := clientOf(t, repo)
	r := openRepository(t, o)
	root, f, cut, link := r.Root(), find(t, r, "/f"), find(t, r, "/n/cut"), find(t, r, "/l")
	head := repo.Head()
	for _, tc := range []struct {
		n          view.Node
		name, want string // a want that ends in … is a beginning
	}{
		{f, "security.capability", "\x01\x00\x02"},
		{f, "user.fqrn", "stored wins"},
		{f, "user.odd~1", "not a page"},
		{root, "user.fqrn", repo.Name},
		{root, "user.revision", "1"},
		{root, "user.root_hash", head.RootCatalog.String()},
		{f, "user.revision", "1"},
		{root, "user.host", repo.URL},
		{root, "user.host_list", repo.URL},
		{root, "user.proxy", "DIRECT"},
		{root, "user.nioerr", "0"},
		{root, "user.ncleanup24", "0"},
		{root, "user.ndiropen", "0"},
		{root, "user.useddirp", "0"},
		{f, "user.chunks", "1"},
		{f, "user.compression", "zlib"},
		{cut, "user.chunks", "3"},
		{cut, "user.chunk_list", "hash,offset,size\n…"},
		{cut, "user.chunks~0", "3"},
		{cut, "user.chunks@0", "# page 0 of user.chunks, which has 1, from 0\n3"},
		{cut, "user.chunks@?", "user.chunks has 1 pages…"},
		{root, "user.timeout", "5"},
		{root, "user.timeout_direct", "60"}, // of clientOf
		{root, "user.pubkeys", "-----BEGIN PUBLIC KEY-----\n…"},
		{f, "user.external_file", "0"},
		{f, "user.direct_io", "0"},
		{cut, "user.chunks~?", "num_pages, 1"},
		{link, "user.rawlink", "$(X)y"},
		{link, "xfsroot.rawlink", "$(X)y"},
		{cut, "user.catalog_counters", "catalog_hash: "},
		{root, "user.repo_counters", "chunked,1\nchunked_size,9000\nchunks,3\ndir,3\nexternal,0\nexternal_file_size,0\nfile_size,9001\nnested,1\nregular,3\n…"},
	} {
		got := mustXAttr(t, r, tc.n, tc.name)
		if want, begins := strings.CutSuffix(tc.want, "…"); got != want && !(begins && strings.HasPrefix(got, want)) && tc.name != "user.catalog_counters" {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	if got := mustXAttr(t, r, cut, "user.catalog_counters"); !strings.Contains(got, "catalog_mountpoint: /n\nchunked,1\n") {
		t.Errorf("catalog counters of /n: %q", got)
	}
	// What is at a mountpoint is told of the catalog mounted there.
	if at, in := mustXAttr(t, r, find(t, r, "/n"), "user.catalog_counters"), mustXAttr(t, r, cut, "user.catalog_counters"); at != in {
		t.Errorf("catalog counters of the mountpoint: %q, of what lies below: %q", at, in)
	}
	// The TTL is four minutes and has begun to run.
	if got := mustXAttr(t, r, root, "user.expires"); got != "3" && got != "4" {
		t.Errorf("expires in %s minutes", got)
	}
	for _, name := range []string{"user.rx", "user.speed", "user.inode_max", "user.version", "user.hitrate", "user.maxfd", "user.usedfd", "user.pid", "user.uptime"} {
		if got := mustXAttr(t, r, root, name); got == "" {
			t.Errorf("%s is empty", name)
		}
	}
	if got := mustXAttr(t, r, f, "user.lhash"); got != "Not in cache" {
		t.Errorf("user.lhash before the file was read: %q", got)
	}
	readPath(t, r, "/f")
	if got, want := mustXAttr(t, r, f, "user.lhash"), mustXAttr(t, r, f, "user.hash"); got != want {
		t.Errorf("user.lhash %q, user.hash %q", got, want)
	}
	for _, tc := range []struct {
		n    view.Node
		name string
	}{
		{f, "user.nosuch"},
		{f, "trusted.overlay.metacopy"},
		{root, "user.hash"},
		{f, "user.rawlink"},
		{cut, "user.hash"},
		{link, "user.chunks"},
		{cut, "user.chunks~1"},
		{cut, "user.chunks~x"},
		{cut, "user.chunks~-1"},
		{cut, "user.chunks@1"},
		{cut, "user.lhash"},
		{link, "user.lhash"},
		{f, "user.external_url"},
		{root, "user.external_host"},
		{root, "user.repo_metainfo"}, // testrepo has none
		{link, "user.compression"},
	} {
		if v, err := r.XAttr(t.Context(), tc.n, tc.name); !errors.Is(err, view.ErrNoXAttr) {
			t.Errorf("%s: %q, %v", tc.name, v, err)
		}
	}
	stored, err := r.ListXAttr(t.Context(), f)
	if err != nil || !slices.Equal(stored, []string{"security.capability", "user.fqrn", "user.odd~1"}) {
		t.Errorf("of a file: %v, %v", stored, err)
	}
	computed, err := r.ListXAttr(t.Context(), root)
	if err != nil || !slices.Contains(computed, "user.revision") || slices.Contains(computed, "user.hash") {
		t.Errorf("of the root: %v, %v", computed, err)
	}
	o.RootHash = head.RootCatalog
	fixed := openRepository(t, o)
	if got := mustXAttr(t, fixed, fixed.Root(), "user.expires"); got != "never (fixed root catalog)" {
		t.Errorf("user.expires of a fixed root: %q", got)
	}
	if !fixed.AnyXAttrs() || !r.AnyXAttrs() {
		t.Error("AnyXAttrs denies what is there")
	}
}

// Only a tree that stays as it is can be known to have no attributes.
func TestAnyXAttrs(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("x")})
	o := clientOf(t, repo)
	if !openRepository(t, o).AnyXAttrs() {
		t.Error("a later revision may have some")
	}
	o.RootHash = repo.Head().RootCatalog
	if openRepository(t, o).AnyXAttrs() {
		t.Error("there are none and never will be")
	}
	nested := testrepo.Text("x")
	nested.XAttrs = []catalog.XAttr{{Name: "user.a", Value: []byte("b")}}
	repo.Publish(testrepo.Tree{"/n": testrepo.Nested(), "/n/f": nested})
	o.RootHash = repo.Head().RootCatalog
	if !openRepository(t, o).AnyXAttrs() {
		t.Error("a nested catalog has some")
	}
}

// Long values come in pages.
func TestXAttrPages(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{Compression: 1})
	data := make([]byte, 2000)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	repo.Publish(testrepo.Tree{"/cut": testrepo.Chunks(data, 2)})
	r := openRepository(t, clientOf(t, repo))
	n := find(t, r, "/cut")
	if got := mustXAttr(t, r, n, "user.chunk_list~?"); got != "num_pages, 2" {
		t.Errorf("%q", got)
	}
	all := mustXAttr(t, r, n, "user.chunk_list") + mustXAttr(t, r, n, "user.chunk_list~1")
	if lines := strings.Count(all, "\n"); lines != 1001 {
		t.Errorf("%d lines", lines)
	}
}

func TestVariables(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	links := map[string]string{
		"plain": "plain", "$(SET)": "value", "$(SET:-d)": "value", "$(UNSET)": "", "a$(UNSET:-d)b": "adb", "$(UNSET:-)": "",
		"$(SET)$(SET)": "valuevalue", "$(SET": "$(SET", "x$(SET)$(y": "xvalue$(y", "$()": "", "$(UNSET:-$(SET))": "$(SET)", "$SET": "$SET",
	}
	tree, want := testrepo.Tree{}, map[string]string{}
	for raw, expanded := range links {
		path := fmt.Sprintf("/%d", len(tree))
		tree[path], want[path] = testrepo.Link(raw), expanded
	}
	tree["/long"] = testrepo.Link("$(LONG)")
	repo.Publish(tree)
	o := clientOf(t, repo)
	o.Getenv = func(name string) (string, bool) {
		switch name {
		case "SET":
			return "value", true
		case "LONG":
			return strings.Repeat("x", 5000), true
		}
		return "", false
	}
	r := openRepository(t, o)
	for path, target := range want {
		got, err := r.Readlink(t.Context(), find(t, r, path))
		if string(got) != target || err != nil || mustAttr(t, r, find(t, r, path)).Size != int64(len(target)) {
			t.Errorf("%s: %q, %v; want %q", tree[path].Symlink, got, err, target)
		}
	}
	if _, err := r.Readlink(t.Context(), find(t, r, "/long")); err == nil {
		t.Error("a target longer than any path was returned")
	}
}

func TestFS(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	dev := testrepo.Dir()
	dev.Mode, dev.Size, dev.Links = catalog.ModeChar|0o4666, 1<<8|3, 1
	repo.Publish(testrepo.Tree{
		"/a/file": testrepo.Text("content"), "/a/n": testrepo.Nested(), "/a/n/f": testrepo.Chunks(pattern(5000), 1000),
		"/a/up": testrepo.Link("../b/target"), "/b/target": testrepo.Text("linked"), "/dir": testrepo.Link("a/n"),
		"/climb": testrepo.Link("../../etc/passwd"), "/absolute": testrepo.Link("/a/file"), "/loop": testrepo.Link("loop"), "/null": dev,
	})
	r := openRepository(t, clientOf(t, repo))
	fsys := r.FS()
	plain := testrepo.Tree{"/x/y": testrepo.Text("1"), "/x/z": testrepo.Chunks(pattern(50), 20), "/n": testrepo.Nested(), "/n/a": testrepo.Text("")}
	repo.Publish(plain)
	if _, err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(r.FS(), "x/y", "x/z", "n/a", "n/.cvmfscatalog"); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{"a/file": "content", "a/up": "linked", "dir/f": string(pattern(5000))} {
		if b, err := fs.ReadFile(fsys, path); string(b) != want || err != nil {
			t.Errorf("%s of the earlier revision: %q, %v", path, b, err)
		}
	}
	for _, path := range []string{"climb", "absolute", "nosuch", "a/file/x"} {
		if _, err := fs.Stat(fsys, path); err == nil {
			t.Errorf("%s leads somewhere", path)
		}
	}
	if _, err := fs.Stat(fsys, "loop"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("loop: %v", err)
	}
	if info, err := fs.Stat(fsys, "null"); err != nil || info.Mode() != fs.ModeDevice|fs.ModeCharDevice|fs.ModeSetuid|0o666 || info.Sys().(*view.Attr).Rdev != 1<<8|3 {
		t.Errorf("device: %v, %v", info, err)
	}
	if target, err := fs.ReadLink(fsys, "climb"); target != "../../etc/passwd" || err != nil {
		t.Errorf("%q, %v", target, err)
	}
	if _, err := fs.ReadFile(fsys, "../x"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("invalid path: %v", err)
	}
}

func TestStatfs(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(nestedTree("1"))
	r := openRepository(t, clientOf(t, repo))
	s, err := r.Statfs(t.Context())
	// /, /a, /a/n, /a/n/deep, /a/n/m, /b, three files and two markers.
	if err != nil || s.Files != 11 || s.NameMax != 255 {
		t.Errorf("%+v, %v", s, err)
	}
}

// What a published tree says of itself is answered and not listed, where people
// browse and where containers stand.
func TestOwnXAttrs(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	tree := testrepo.Nested()
	tree.XAttrs = []catalog.XAttr{{Name: "user.rootstock.tree", Value: []byte("id")}, {Name: "user.source", Value: []byte("s")}}
	repo.Publish(testrepo.Tree{"/t": tree, "/t/f": testrepo.Text("x")})
	r := openRepository(t, clientOf(t, repo))
	lower, err := r.Tree(t.Context(), "/t")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/t", lower.Path} {
		n := find(t, r, path)
		if got, err := r.ListXAttr(t.Context(), n); err != nil || !slices.Equal(got, []string{"user.source"}) {
			t.Errorf("%s lists %v, %v", path, got, err)
		}
		if got := mustXAttr(t, r, n, "user.rootstock.tree"); got != "id" {
			t.Errorf("%s answers %q", path, got)
		}
	}
}
