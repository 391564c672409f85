package viewtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// View is what [Run] checks. It is fusefs/tree's View without statfs.
type View interface {
	Root() view.Node
	Lookup(ctx context.Context, parent view.Node, name string) (view.Node, view.Attr, error)
	ReadDir(ctx context.Context, dir view.Node, from int, add func(name string, n view.Node, a view.Attr) bool) error
	Attr(ctx context.Context, n view.Node) (view.Attr, error)
	Readlink(ctx context.Context, n view.Node) ([]byte, error)
	Open(ctx context.Context, n view.Node) (view.Content, error)
	XAttr(ctx context.Context, n view.Node, name string) ([]byte, error)
	ListXAttr(ctx context.Context, n view.Node) ([]string, error)
}

type entry struct {
	name string
	node view.Node
	attr view.Attr
}

// Run walks all of v and checks what package view promises: that the ways to ask
// for one thing agree, that what is not there is said in the right kind of
// error, and that a context that is done never makes an answer wrong.
func Run(t *testing.T, v View) {
	t.Helper()
	s := suite{v: v, nodes: make(map[view.Node]view.Attr)}
	s.directory(t, v.Root())
	s.unknown(t)
}

type suite struct {
	v     View
	nodes map[view.Node]view.Attr
}

func (s *suite) directory(t *testing.T, dir view.Node) {
	t.Helper()
	ctx := t.Context()
	if dir > view.MaxNode {
		t.Errorf("node %d is beyond MaxNode", dir)
	}
	entries := s.list(t, dir, 0, -1)
	seen := make(map[string]bool)
	for at, e := range entries {
		if seen[e.name] || e.name == "" || e.name == "." || e.name == ".." {
			t.Errorf("node %d lists name %q, empty, special or twice", dir, e.name)
		}
		seen[e.name] = true
		n, a, err := s.v.Lookup(ctx, dir, e.name)
		if err != nil || n != e.node || a != e.attr {
			t.Errorf("Lookup(%d, %q) = %d, %+v, %v; listed as %d, %+v", dir, e.name, n, a, err, e.node, e.attr)
		}
		s.node(t, e)
		if at < 3 || at == len(entries)-1 {
			s.resume(t, dir, entries, at)
		}
	}
	if got := s.list(t, dir, len(entries)+1, -1); len(got) != 0 {
		t.Errorf("node %d lists %d entries past its end", dir, len(got))
	}
	if _, _, err := s.v.Lookup(ctx, dir, "no such name \xff"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lookup of an absent name: %v, want %v", err, fs.ErrNotExist)
	}
}

// resume checks a listing that stopped at an entry and begins again there.
func (s *suite) resume(t *testing.T, dir view.Node, entries []entry, at int) {
	t.Helper()
	if got := s.list(t, dir, 0, at+1); len(got) != at+1 {
		t.Errorf("node %d: stopped after %d entries, got %d", dir, at+1, len(got))
	}
	rest := s.list(t, dir, at+1, -1)
	if len(rest) != len(entries)-at-1 {
		t.Errorf("node %d: %d entries from %d, want %d", dir, len(rest), at+1, len(entries)-at-1)
		return
	}
	for i, e := range rest {
		if e != entries[at+1+i] {
			t.Errorf("node %d: entry %d is %+v when resumed, was %+v", dir, at+1+i, e, entries[at+1+i])
		}
	}
}

// list returns the entries from on, at most limit of them if that is positive.
func (s *suite) list(t *testing.T, dir view.Node, from, limit int) (entries []entry) {
	t.Helper()
	err := s.v.ReadDir(t.Context(), dir, from, func(name string, n view.Node, a view.Attr) bool {
		entries = append(entries, entry{name, n, a})
		return len(entries) != limit
	})
	if err != nil {
		t.Errorf("ReadDir(%d, %d): %v", dir, from, err)
	}
	return entries
}

func (s *suite) node(t *testing.T, e entry) {
	t.Helper()
	ctx := t.Context()
	a, err := s.v.Attr(ctx, e.node)
	if err != nil || a != e.attr {
		t.Errorf("Attr(%d) of %q = %+v, %v; listed as %+v", e.node, e.name, a, err, e.attr)
	}
	if a.Ino == 0 || a.Links == 0 || a.MTimeNS < 0 || a.MTimeNS > 999_999_999 || a.Size < 0 {
		t.Errorf("impossible attributes of %q: %+v", e.name, a)
	}
	s.done(t, e)
	if _, again := s.nodes[e.node]; again {
		return
	}
	s.nodes[e.node] = a
	switch a.Mode & modeType {
	case modeDir:
		s.directory(t, e.node)
	case modeRegular:
		s.file(t, e)
	case modeSymlink:
		if target, err := s.v.Readlink(ctx, e.node); err != nil || int64(len(target)) != a.Size {
			t.Errorf("Readlink(%q) = %q, %v; size is %d", e.name, target, err, a.Size)
		}
	}
	if a.Mode&modeType != modeDir {
		if _, _, err := s.v.Lookup(ctx, e.node, "x"); !errors.Is(err, view.ErrNotDir) {
			t.Errorf("Lookup in %q, which is no directory: %v, want %v", e.name, err, view.ErrNotDir)
		}
	}
	s.xattrs(t, e)
}

// done checks that an answer given without waiting is the same answer.
func (s *suite) done(t *testing.T, e entry) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a, err := s.v.Attr(ctx, e.node); err == nil && a != e.attr {
		t.Errorf("Attr(%q) with a done context = %+v, want %+v", e.name, a, e.attr)
	} else if err != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, view.ErrStale)) {
		t.Errorf("Attr(%q) with a done context denies it: %v", e.name, err)
	}
}

func (s *suite) file(t *testing.T, e entry) {
	t.Helper()
	ctx := t.Context()
	c, err := s.v.Open(ctx, e.node)
	if err != nil {
		t.Errorf("Open(%q): %v", e.name, err)
		return
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close(%q): %v", e.name, err)
		}
	}()
	if c.Size() != e.attr.Size {
		t.Errorf("content of %q has %d bytes, its attributes say %d", e.name, c.Size(), e.attr.Size)
	}
	all := make([]byte, c.Size())
	if n, err := c.ReadAt(ctx, all, 0); n != len(all) || (err != nil && !errors.Is(err, io.EOF)) {
		t.Errorf("ReadAt(%q) of all %d bytes = %d, %v", e.name, len(all), n, err)
	}
	tail := make([]byte, 16)
	half := c.Size() / 2
	n, err := c.ReadAt(ctx, tail, half)
	if !bytes.Equal(tail[:n], all[half:min(half+16, c.Size())]) || (n < len(tail)) != errors.Is(err, io.EOF) && n < len(tail) {
		t.Errorf("ReadAt(%q) in the middle = %d, %v, or other bytes", e.name, n, err)
	}
	if n, err := c.ReadAt(ctx, tail, c.Size()); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt(%q) at its end = %d, %v", e.name, n, err)
	}
}

func (s *suite) xattrs(t *testing.T, e entry) {
	t.Helper()
	names, err := s.v.ListXAttr(t.Context(), e.node)
	if err != nil {
		t.Errorf("ListXAttr(%q): %v", e.name, err)
	}
	for _, name := range names {
		if _, err := s.v.XAttr(t.Context(), e.node, name); err != nil {
			t.Errorf("XAttr(%q, %q), which is listed: %v", e.name, name, err)
		}
	}
	if _, err := s.v.XAttr(t.Context(), e.node, "security.absent"); !errors.Is(err, view.ErrNoXAttr) {
		t.Errorf("XAttr(%q) of an absent name: %v, want %v", e.name, err, view.ErrNoXAttr)
	}
}

func (s *suite) unknown(t *testing.T) {
	t.Helper()
	if _, err := s.v.Attr(t.Context(), view.MaxNode); !errors.Is(err, view.ErrStale) {
		t.Errorf("Attr of an unknown node: %v, want %v", err, view.ErrStale)
	}
	if _, err := s.v.Open(t.Context(), view.MaxNode); !errors.Is(err, view.ErrStale) {
		t.Errorf("Open of an unknown node: %v, want %v", err, view.ErrStale)
	}
}
