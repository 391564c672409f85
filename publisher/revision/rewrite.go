package revision

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// Rewrite asks of every regular file of the revision where its content is to
// be, and changes the rows for which that is elsewhere. Nothing else of a row
// changes but, where content says so, the size. Files whose content is not in
// the repository are left out. Catalogs are read, changed and stored one after
// the other, each below before the one above it; one in which nothing changes
// keeps its hash. It reports whether anything changed. The transaction must
// have no other edits before.
func (t *Tx) Rewrite(ctx context.Context, content func(path string, e *catalog.Entry) (imagemeta.Stored, error)) (bool, error) {
	r := rewriter{tx: t, content: content}
	if err := r.catalog(ctx, t.root); err != nil {
		return false, fmt.Errorf("rewrite revision: %w", err)
	}
	return t.root.dirty, nil
}

type rewriter struct {
	tx      *Tx
	content func(path string, e *catalog.Entry) (imagemeta.Stored, error)
}

// catalog rewrites what is nested in o, and then o's own rows.
func (r *rewriter) catalog(ctx context.Context, o *open) error {
	nested, err := o.w.Nested()
	if err != nil {
		return fmt.Errorf("catalog at %s: %w", display(o.mount), err)
	}
	for _, n := range nested {
		if err := r.nested(ctx, o, n); err != nil {
			return err
		}
	}
	return r.directories(ctx, o)
}

func (r *rewriter) nested(ctx context.Context, o *open, n catalog.Nested) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	child, err := r.tx.load(ctx, n.Path, n.Hash, n.Size, o)
	if err != nil {
		return err
	}
	before := child.total
	if err := r.catalog(ctx, child); err != nil {
		return err
	}
	// Out of the list of open ones either way: there may be thousands.
	r.tx.opened = slices.DeleteFunc(r.tx.opened, func(x *open) bool { return x == child })
	if !child.dirty {
		if err := child.w.Close(); err != nil {
			return fmt.Errorf("catalog at %s: %w", n.Path, err)
		}
		return os.Remove(child.file)
	}
	next, err := r.tx.finish(ctx, child)
	if err != nil {
		return err
	}
	if err := o.w.SetNested(next); err != nil {
		return fmt.Errorf("catalog at %s: link %s: %w", display(o.mount), n.Path, err)
	}
	o.w.AddSubtree(child.total.Sub(before))
	o.dirty = true
	return nil
}

// directories rewrites the rows of one catalog.
func (r *rewriter) directories(ctx context.Context, o *open) error {
	stack := []string{o.mount}
	for len(stack) > 0 {
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		list, err := o.w.List(dir)
		if err != nil {
			return fmt.Errorf("list %s: %w", display(dir), err)
		}
		for i := range list {
			e := &list[i]
			path := dir + "/" + e.Name
			switch {
			case e.IsDir() && e.Flags&(catalog.NestedMountpoint|catalog.BindMountpoint) == 0:
				stack = append(stack, path)
			case e.IsRegular() && e.Flags&catalog.External == 0:
				if err := r.row(o, path, e); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
			}
		}
	}
	return nil
}

func (r *rewriter) row(o *open, path string, e *catalog.Entry) error {
	to, err := r.content(path, e)
	if err != nil {
		return err
	}
	next := *e
	next.Flags &^= catalog.Chunked
	next.Hash, next.Chunks, next.Size = object.Hash{}, nil, to.Size
	setContent(&next, to)
	if next.Size == e.Size && next.Hash == e.Hash && next.Flags == e.Flags && next.Compression == e.Compression && slices.Equal(next.Chunks, e.Chunks) {
		return nil
	}
	o.dirty = true
	return o.w.Replace(path, &next)
}
