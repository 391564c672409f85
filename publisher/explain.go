package publisher

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
)

// maxLinks is how many symbolic links a path may lead through, as in Linux.
const maxLinks = 40

// Object is a stored object and what it holds.
type Object struct {
	Name   string // in the store
	Size   int64  // plain bytes
	Stored int64  // bytes in the store, -1 if it is not there
}

// Explained is all that is known of a path.
type Explained struct {
	Path string // links on the way resolved
	// Versions are all names of the tree the path lies in; none if it lies in
	// no tree of ours, or beside them.
	Versions []Listed
	// Entry is as the catalog has it. Of a file in a tree, Content is the
	// SHA-256 of its bytes, and SharedBy the other trees that hold it.
	Entry       catalog.Entry
	Catalog     string // mountpoint of the catalog that has the entry
	Content     object.ContentID
	Compression object.Compression
	Objects     []Object
	SharedBy    []Listed
}

// Explain tells what a path of the newest revision is, where it came from, how
// it is stored and who shares it. Links on the way are followed inside the
// repository, or inside the tree they are in; the last is not. It returns an
// error that wraps [ErrNotFound] for a path that is not there.
func Explain(ctx context.Context, st store.Store, tempDir, name string) (*Explained, error) {
	v, err := openView(ctx, st, tempDir)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	x, err := v.explain(ctx, st, name)
	if err != nil {
		return nil, fmt.Errorf("explain %s: %w", name, err)
	}
	return x, nil
}

func (v *view) explain(ctx context.Context, st store.Store, name string) (*Explained, error) {
	at, tree, err := v.walk(ctx, name)
	if err != nil {
		return nil, err
	}
	e, ok, err := v.tx.Lookup(ctx, at)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, v.missing(ctx, at)
	}
	x := &Explained{Path: at, Entry: e, Compression: e.Compression}
	if x.Catalog, err = v.tx.CatalogOf(ctx, at); err != nil {
		return nil, err
	}
	if x.Objects, err = objectsOf(ctx, st, &e); err != nil {
		return nil, err
	}
	if tree == "" {
		return x, nil
	}
	all, err := v.all(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.Path == tree {
			x.Versions = append(x.Versions, t)
		}
	}
	if len(x.Versions) == 0 || !e.IsRegular() {
		return x, nil
	}
	return x, v.share(ctx, x, strings.TrimPrefix(at, tree+"/"), all)
}

// missing says how far the path at leads.
func (v *view) missing(ctx context.Context, at string) error {
	name := path.Base(at)
	for dir := catalog.Parent(at); ; dir, name = catalog.Parent(dir), path.Base(dir) {
		_, ok, err := v.tx.Lookup(ctx, dir)
		if err != nil {
			return err
		}
		if !ok && dir != "" {
			continue
		}
		hint := ""
		if where := strings.Split(dir, "/"); len(where) == 3 && where[1] != strings.Trim(channelsDir, "/") {
			hint = fmt.Sprintf("; its channels are in %s%s", channelsDir, dir)
		}
		return fmt.Errorf("it is %w: %s has no %q%s", ErrNotFound, cmp.Or(dir, "/"), name, hint)
	}
}

// share finds the file's content in the listing and who else has it.
func (v *view) share(ctx context.Context, x *Explained, rel string, all []Listed) error {
	own := x.Versions[0].Tree
	listing, err := v.listing(ctx, own)
	if err != nil {
		return err
	}
	for r := imagemeta.NewReader(bytes.NewReader(listing), imagemeta.DefaultLimits); ; {
		e, err := r.Next()
		if err == io.EOF { //nolint:errorlint // a Reader returns it bare
			return nil // our marker
		}
		if err != nil {
			return err
		}
		if e.Path == rel {
			x.Content = e.Content
			break
		}
	}
	has := map[string]bool{own: false}
	for _, t := range all {
		known, met := has[t.Tree]
		if !met {
			objects, err := v.objects(ctx, t.Tree)
			if err != nil {
				return err
			}
			_, known = objects.Lookup(x.Content)
			has[t.Tree] = known
		}
		if known || t.Tree == own && t.Path != x.Versions[0].Path {
			x.SharedBy = append(x.SharedBy, t)
		}
	}
	return nil
}

// walk resolves the links on the way to name and returns where that is, and the
// path of the tree it lies in.
func (v *view) walk(ctx context.Context, name string) (at, tree string, err error) {
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at != tree { // a tree's root is its own parent, as in a container
				at = catalog.Parent(at)
			}
			continue
		}
		here := at + "/" + part
		e, ok, err := v.tx.Lookup(ctx, here)
		if err != nil {
			return "", "", err
		}
		if ok && treeOf(&e).tree != "" {
			tree = here
		}
		if !ok || !e.IsSymlink() || len(todo) == 0 {
			at = here
			continue
		}
		if links++; links > maxLinks {
			return "", "", fmt.Errorf("%s: too many symbolic links", here)
		}
		if strings.HasPrefix(e.Symlink, "/") {
			at = tree
		}
		todo = append(strings.Split(e.Symlink, "/"), todo...)
	}
	return at, tree, nil
}

// objectsOf names the stored objects of a file.
func objectsOf(ctx context.Context, st store.Store, e *catalog.Entry) ([]Object, error) {
	if !e.IsRegular() || e.Flags&catalog.External != 0 {
		return nil, nil
	}
	var all []Object
	add := func(h object.Hash, t object.Type, size int64) error {
		o := Object{Name: object.Path(h, t), Size: size, Stored: -1}
		n, ok, err := st.Has(ctx, o.Name)
		if ok {
			o.Stored = n
		}
		all = append(all, o)
		return err
	}
	if e.Flags&catalog.Chunked == 0 {
		err := add(e.Hash, object.Bulk, e.Size)
		return all, err
	}
	for _, c := range e.Chunks {
		if err := add(c.Hash, object.Partial, c.Size); err != nil {
			return nil, err
		}
	}
	return all, nil
}
