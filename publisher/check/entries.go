package check

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/revision"
)

// entry checks what every row must keep to.
func (t *table) entry(r *row, here at) {
	if r.Links == 0 {
		t.c.find(Links, here, "no links at all")
	}
	if r.Group == 0 {
		return
	}
	if r.IsDir() {
		t.c.find(Links, here, "a directory in the hard link group %d", r.Group)
		return
	}
	g := t.groups[r.Group]
	if g == nil {
		t.groups[r.Group] = &group{first: r, path: here.path, names: 1}
		return
	}
	g.names++
	if r.Parent != g.first.Parent {
		t.c.find(Links, here, "hard link group %d spans directories: %q is in it, too", r.Group, g.path)
	}
	a, b := r.Entry, g.first.Entry
	a.Name, b.Name = "", ""
	for _, d := range differences(&a, &b) {
		t.c.find(Links, here, "it and %q are one file, and disagree: %s", g.path, d)
	}
}

func (t *table) finishGroups() {
	if t.broken {
		return
	}
	for id, g := range t.groups {
		if g.names != g.first.Links {
			t.c.find(Links, at{g.path, t.here.object}, "hard link group %d has %d names and a link count of %d", id, g.names, g.first.Links)
		}
	}
}

// file checks what is no directory, and asks for its objects.
func (t *table) file(r *row, here at) {
	switch r.Mode & catalog.ModeType {
	case catalog.ModeSymlink:
		if r.Symlink == "" || r.Size != int64(len(r.Symlink)) {
			t.c.find(Entry, here, "a link of %d bytes to %q", r.Size, r.Symlink)
		}
		if t.n.tree.IsZero() && !t.n.inner {
			t.n.links = append(t.n.links, linkRow{here.path, r.Symlink})
		}
	case catalog.ModeFIFO, catalog.ModeSocket:
		if r.Size != 0 {
			t.c.find(Entry, here, "a FIFO or socket of %d bytes", r.Size)
		}
	case catalog.ModeRegular:
		t.regular(r, here)
	}
}

func (t *table) regular(r *row, here at) {
	if r.Flags&catalog.External != 0 {
		return // its content is not the repository's
	}
	chunked := r.Flags&catalog.Chunked != 0
	if r.Hash.IsZero() && !chunked {
		t.c.find(Entry, here, "a file without content")
		return
	}
	if !r.Compression.Valid() {
		t.c.find(Entry, here, "its content is stored as %s, which is unknown", r.Compression)
		return
	}
	if !t.n.inner && t.n.tree.IsZero() && strings.HasPrefix(here.path, ownDir) && r.Name != revision.Marker {
		if t.n.files == nil {
			t.n.files = map[string]*catalog.Entry{}
		}
		t.n.files[here.path] = &r.Entry
	}
	if !r.Hash.IsZero() {
		t.c.want(want{hash: r.Hash, typ: object.Bulk, compression: r.Compression, size: r.Size}, here.path)
	}
	for _, chunk := range r.Chunks {
		t.c.want(want{hash: chunk.Hash, typ: object.Partial, compression: r.Compression, size: chunk.Size}, here.path)
	}
}

// treeOf returns the id of the tree whose root directory e is, zero if it is
// none of ours.
func treeOf(e *catalog.Entry) object.ContentID {
	for _, x := range e.XAttrs {
		if x.Name == attrTree {
			if id, err := object.ParseContentID(string(x.Value)); err == nil {
				return id
			}
		}
	}
	return object.ContentID{}
}

// differences says in which fields a is not b. Group numbers count only in
// whether there is one: they are a catalog's own.
func differences(a, b *catalog.Entry) []string {
	var all []string
	add := func(what string, x, y any) { all = append(all, fmt.Sprintf("%s %v and %v", what, x, y)) }
	if a.Name != b.Name {
		add("names", fmt.Sprintf("%q", a.Name), fmt.Sprintf("%q", b.Name))
	}
	if a.Mode != b.Mode {
		add("modes", fmt.Sprintf("%#o", a.Mode), fmt.Sprintf("%#o", b.Mode))
	}
	if a.UID != b.UID || a.GID != b.GID {
		add("owners", fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID))
	}
	if a.Size != b.Size {
		add("sizes", a.Size, b.Size)
	}
	if a.MTime != b.MTime || a.MTimeNS != b.MTimeNS {
		add("times", fmt.Sprintf("%d.%d", a.MTime, a.MTimeNS), fmt.Sprintf("%d.%d", b.MTime, b.MTimeNS))
	}
	if a.Links != b.Links {
		add("link counts", a.Links, b.Links)
	}
	if (a.Group == 0) != (b.Group == 0) {
		add("hard link groups", a.Group, b.Group)
	}
	if a.Flags != b.Flags {
		add("flags", fmt.Sprintf("%#x", uint32(a.Flags)), fmt.Sprintf("%#x", uint32(b.Flags)))
	}
	if a.Hash != b.Hash || a.Compression != b.Compression || !slices.Equal(a.Chunks, b.Chunks) {
		add("contents", content(a), content(b))
	}
	if a.Symlink != b.Symlink {
		add("link targets", fmt.Sprintf("%q", a.Symlink), fmt.Sprintf("%q", b.Symlink))
	}
	if slices.CompareFunc(a.XAttrs, b.XAttrs, func(x, y catalog.XAttr) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), bytes.Compare(x.Value, y.Value))
	}) != 0 {
		add("xattrs", xattrNames(a), xattrNames(b))
	}
	return all
}

func content(e *catalog.Entry) string {
	if len(e.Chunks) > 0 {
		return fmt.Sprintf("%d chunks from %s on (%s)", len(e.Chunks), e.Chunks[0].Hash, e.Compression)
	}
	if e.Hash.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%s (%s)", e.Hash, e.Compression)
}

func xattrNames(e *catalog.Entry) string {
	var b strings.Builder
	for i, x := range e.XAttrs {
		if i == 8 {
			b.WriteString(" …")
			break
		}
		fmt.Fprintf(&b, " %s=%.40q", x.Name, x.Value)
	}
	return "[" + strings.TrimSpace(b.String()) + "]"
}
