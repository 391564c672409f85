package client_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/manifest"
)

// A process that resumes knows the nodes that the one before handed out, asks no
// server, and shows what that showed.
func TestResume(t *testing.T) {
	now := time.Now()
	repo := testrepo.New(t, testrepo.Options{Expires: now.Add(time.Hour)})
	repo.Publish(testrepo.Tree{"/a": testrepo.Text("a"), "/dir": testrepo.Nested(), "/dir/b": testrepo.Text("b")})
	o := clientOf(t, repo)
	o.Clock = func() time.Time { return now }
	o.Nodes = filepath.Join(t.TempDir(), "nodes")
	open := func() *client.Repository {
		t.Helper()
		r, err := client.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	find := func(r *client.Repository, path string) view.Node {
		t.Helper()
		n, _, err := r.Find(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	r := open()
	old := r.Root()
	r.Shown(old)
	if r.Roots() != nil {
		t.Error("a new connection remembers roots")
	}
	b := find(r, "/dir/b")
	// It dies while the kernel is told of a new root.
	repo.Publish(testrepo.Tree{"/a": testrepo.Text("new"), "/dir": testrepo.Nested(), "/dir/c": testrepo.Text("c")})
	if changed, err := r.Refresh(t.Context()); err != nil || !changed {
		t.Fatal(changed, err)
	}
	next := r.Root()
	r.Showing(next)
	c := find(r, "/dir/c")
	r.Close()

	repo.Fault("", func(http.ResponseWriter, *http.Request) { t.Error("a server was asked") })
	now = now.Add(2 * time.Hour) // the whitelist ran out, which stops no one who reads
	o.Resume = true
	r = open()
	if got := r.Roots(); len(got) != 2 || got[0] != old || got[1] != next || r.Root() != next {
		t.Errorf("roots %v, root %v; want %v and %v", got, r.Root(), old, next)
	}
	for n, size := range map[view.Node]int64{b: 1, c: 1} {
		if a, err := r.Attr(t.Context(), n); err != nil || a.Size != size {
			t.Errorf("node %v: %d bytes, %v", n, a.Size, err)
		}
	}
	if find(r, "/dir/c") != c {
		t.Error("a file has another node now")
	}
	if err := r.Trusted(); !errors.Is(err, manifest.ErrExpired) {
		t.Errorf("whitelist ran out: %v", err)
	}
	r.Shown(next)
	r.Close()
	r = open()
	if got := r.Roots(); len(got) != 1 || got[0] != next {
		t.Errorf("roots %v, want %v", got, next)
	}
	r.Close()

	// A line that the disk did not take whole costs its nodes, not the others.
	text, err := os.ReadFile(o.Nodes)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(o.Nodes, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("\n{\"slot\":9")
	f.Close()
	r = open()
	if _, err := r.Attr(t.Context(), c); err != nil {
		t.Error(err)
	}
	r.Close()
	// One that says too little is no ground to go on from.
	for name, bad := range map[string]string{"empty": "", "no root": string(text[:20])} {
		if err := os.WriteFile(o.Nodes, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Open(t.Context(), o); !errors.Is(err, client.ErrNodes) {
			t.Errorf("%s: %v", name, err)
		}
	}
	os.Remove(o.Nodes)
	if _, err := client.Open(t.Context(), o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
}
