package revision

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// Tree is a ready-made nested catalog.
type Tree struct {
	Hash  object.Hash
	Size  int64 // bytes, uncompressed
	Root  catalog.Entry
	Total catalog.Counters // of the tree's catalogs together
	// Dropped counts xattrs no catalog can hold (over 255 bytes). The tree's
	// listing has them.
	Dropped int
}

// Contents finds the stored objects of a content.
type Contents func(object.ContentID) (imagemeta.Stored, bool)

// BuildTree writes and stores the catalogs of the tree whose canonical listing
// is entries, mounted at path: one, or several if it is large. xattrs are added to the tree's root directory;
// an entry that has one of their names is an error.
func (t *Tx) BuildTree(ctx context.Context, path string, entries []imagemeta.Entry, contents Contents, xattrs []catalog.XAttr) (Tree, error) {
	b := &treeBuilder{tx: t, prefix: path, contents: contents, xattrs: xattrs}
	tree, err := b.build(ctx, entries)
	if err != nil {
		return Tree{}, fmt.Errorf("build the catalog of %s: %w", path, err)
	}
	return tree, nil
}

type treeBuilder struct {
	tx       *Tx
	prefix   string
	contents Contents
	xattrs   []catalog.XAttr // of our own, for the tree's root
	subdirs  map[string]uint32
	groups   map[linkSet]uint32
	next     map[linkSet]uint32 // the numbers of hard link groups
	cuts     map[string]bool    // directories with a catalog of their own
	open     []*open            // the catalogs from the tree's root to where the listing is
	root     catalog.Entry
	dropped  int
}

// Rows calls fn with every row that the catalogs of a tree mounted at prefix
// have of their own accord, in the listing's order: all but the markers and,
// where large trees are split, the second rows of transition points. Whoever
// checks a tree compares with these. xattrs are those added to the root.
func Rows(prefix string, entries []imagemeta.Entry, contents Contents, xattrs []catalog.XAttr, fn func(path string, row *catalog.Entry) error) error {
	b := &treeBuilder{prefix: prefix, contents: contents, xattrs: xattrs}
	if err := b.begin(entries); err != nil {
		return err
	}
	for i := range entries {
		row, err := b.linked(&entries[i])
		if err != nil {
			return err
		}
		if i == 0 {
			row.Flags = catalog.NestedRoot
		}
		if err := fn(b.path(entries[i].Path), &row); err != nil {
			return err
		}
	}
	return nil
}

func (b *treeBuilder) begin(entries []imagemeta.Entry) error {
	if len(entries) == 0 || entries[0].Path != "" {
		return fmt.Errorf("%w: the listing does not begin with its root", imagemeta.ErrInvalid)
	}
	b.subdirs, b.groups = survey(entries)
	b.next = map[linkSet]uint32{}
	return nil
}

func (b *treeBuilder) build(ctx context.Context, entries []imagemeta.Entry) (Tree, error) {
	if err := b.begin(entries); err != nil {
		return Tree{}, err
	}
	b.cuts = split(entries, b.tx.weight, max(b.tx.weight/leastPart, 2))
	for i := range entries {
		if i%1024 == 0 && ctx.Err() != nil {
			return Tree{}, ctx.Err()
		}
		if err := b.add(ctx, &entries[i]); err != nil {
			return Tree{}, err
		}
	}
	if err := b.leave(ctx, 1); err != nil {
		return Tree{}, err
	}
	o := b.open[0]
	n, err := b.tx.finish(ctx, o)
	if err != nil {
		return Tree{}, err
	}
	return Tree{Hash: n.Hash, Size: n.Size, Root: b.root, Total: o.total, Dropped: b.dropped}, nil
}

// add puts e where it belongs: the listing is depth first, so that is the
// innermost open catalog that e lies in, and those it does not lie in are
// complete.
func (b *treeBuilder) add(ctx context.Context, e *imagemeta.Entry) error {
	path := b.path(e.Path)
	depth := len(b.open)
	for depth > 0 && !within(path, b.open[depth-1].mount, true) {
		depth--
	}
	if err := b.leave(ctx, depth); err != nil {
		return err
	}
	row, err := b.linked(e)
	if err != nil {
		return err
	}
	if e.Path == "" {
		b.root = row
		b.root.Flags = catalog.NestedRoot
		return b.enter(path, row)
	}
	if b.cuts[e.Path] {
		row.Flags = catalog.NestedMountpoint
	}
	if err := b.open[depth-1].w.Add(path, &row); err != nil {
		return fmt.Errorf("%q: %w", e.Path, err)
	}
	if b.cuts[e.Path] {
		return b.enter(path, row)
	}
	return nil
}

// linked is e's row with its link count and group, and the root's with its name
// and our xattrs.
func (b *treeBuilder) linked(e *imagemeta.Entry) (catalog.Entry, error) {
	row, err := b.row(e)
	if err != nil {
		return row, err
	}
	switch {
	case row.IsDir():
		row.Links = 2 + b.subdirs[e.Path]
	case e.Link != 0:
		set := linkSet{e.Link, catalog.Parent("/" + e.Path)}
		if n := b.groups[set]; n > 1 {
			if b.next[set] == 0 {
				b.next[set] = uint32(len(b.next) + 1) // #nosec G115 -- fewer than entries
			}
			row.Group, row.Links = b.next[set], n
		}
	}
	if e.Path == "" {
		row.Name = base(b.prefix)
		row.XAttrs, err = merge(row.XAttrs, b.xattrs)
	}
	return row, err
}

// enter begins the catalog whose root is the directory row at path.
func (b *treeBuilder) enter(path string, row catalog.Entry) error {
	o, err := b.tx.create(path, nil)
	if err != nil {
		return err
	}
	b.open = append(b.open, o)
	row.Flags = catalog.NestedRoot
	if err := o.w.Add(path, &row); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	return o.w.Add(path+"/"+Marker, &b.tx.marker)
}

// leave seals the open catalogs beyond depth, innermost first, and tells each
// one's parent.
func (b *treeBuilder) leave(ctx context.Context, depth int) error {
	for len(b.open) > max(depth, 1) {
		last := len(b.open) - 1
		child, parent := b.open[last], b.open[last-1]
		n, err := b.tx.finish(ctx, child)
		if err != nil {
			return err
		}
		if err := parent.w.SetNested(n); err != nil {
			return err
		}
		parent.w.AddSubtree(child.total)
		b.open = b.open[:last]
	}
	return nil
}

// row is e as a catalog can say it (docs/design/tree.md).
func (b *treeBuilder) row(e *imagemeta.Entry) (catalog.Entry, error) {
	r := catalog.Entry{
		Name: base("/" + e.Path), Mode: e.Mode, UID: e.UID, GID: e.GID, Links: 1,
		MTime: e.MTime, MTimeNS: int32(e.Nsec), // #nosec G115 -- below 10^9
	}
	for _, x := range e.XAttrs {
		if len(x.Name) > 255 || len(x.Value) > 255 {
			b.dropped++
			continue
		}
		r.XAttrs = append(r.XAttrs, catalog.XAttr{Name: x.Name, Value: x.Value})
	}
	switch e.Mode & catalog.ModeType {
	case catalog.ModeDir:
		r.Size = 4096
	case catalog.ModeSymlink:
		r.Symlink, r.Size = e.Target, int64(len(e.Target))
	case catalog.ModeChar, catalog.ModeBlock:
		r.Size = int64(unix.Mkdev(e.Major, e.Minor)) // #nosec G115 -- as st_rdev has it
	case catalog.ModeRegular:
		r.Size = e.Size
		s, ok := b.contents(e.Content)
		if !ok {
			return r, fmt.Errorf("%q: content %s is not stored", e.Path, e.Content)
		}
		setContent(&r, s)
	}
	return r, nil
}

func setContent(r *catalog.Entry, s imagemeta.Stored) {
	r.Compression, r.Hash = s.Compression, s.Hash
	if s.Chunks == nil {
		r.Algorithm = s.Hash.Algorithm
		return
	}
	r.Flags |= catalog.Chunked
	r.Algorithm = s.Chunks[0].Hash.Algorithm
	var offset int64
	for _, c := range s.Chunks {
		r.Chunks = append(r.Chunks, catalog.Chunk{Offset: offset, Size: c.Size, Hash: c.Hash})
		offset += c.Size
	}
}

func (b *treeBuilder) path(rel string) string {
	if rel == "" {
		return b.prefix
	}
	return b.prefix + "/" + rel
}

// linkSet is what of a hard link group lies in one directory; no more can be
// a group in a catalog.
type linkSet struct {
	link uint32
	dir  string
}

// survey counts the sub directories of each directory, and the names of each
// hard link group in each directory.
func survey(entries []imagemeta.Entry) (subdirs map[string]uint32, groups map[linkSet]uint32) {
	subdirs, groups = map[string]uint32{}, map[linkSet]uint32{}
	for i := range entries {
		e := &entries[i]
		if e.Path != "" && e.Mode&catalog.ModeType == catalog.ModeDir {
			subdirs[strings.TrimPrefix(catalog.Parent("/"+e.Path), "/")]++
		}
		if e.Link != 0 {
			groups[linkSet{e.Link, catalog.Parent("/" + e.Path)}]++
		}
	}
	return subdirs, groups
}

// merge adds ours to what the tree's root has, sorted by name.
func merge(theirs, ours []catalog.XAttr) ([]catalog.XAttr, error) {
	all := make([]catalog.XAttr, 0, len(theirs)+len(ours))
	for len(theirs) > 0 || len(ours) > 0 {
		switch {
		case len(ours) == 0 || len(theirs) > 0 && theirs[0].Name < ours[0].Name:
			all, theirs = append(all, theirs[0]), theirs[1:]
		case len(theirs) > 0 && theirs[0].Name == ours[0].Name:
			return nil, fmt.Errorf("%w: the source's root directory has the xattr %s, which is ours", imagemeta.ErrInvalid, ours[0].Name)
		default:
			all, ours = append(all, ours[0]), ours[1:]
		}
	}
	return all, nil
}

// EmptyObject names the stored form of no bytes. The publisher stores it
// before the first marker is written.
func EmptyObject(a object.Algorithm, c object.Compression) (object.Hash, error) {
	stored, err := codec.Encode(c, nil, nil)
	if err != nil {
		return object.Hash{}, err
	}
	return a.Sum(stored), nil
}
