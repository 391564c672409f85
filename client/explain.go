package client

import (
	"context"
	"fmt"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
)

// Explanation is where a file comes from.
type Explanation struct {
	Mode        uint32 // complete st_mode
	Size        int64  // bytes
	Catalog     object.Hash
	CatalogAt   string // where that catalog is attached; "" is the root
	Compression object.Compression
	External    bool
	// Objects are what a regular file's content is made of, in order.
	Objects []StoredObject
}

// StoredObject is one object of a file.
type StoredObject struct {
	Hash   object.Hash
	Path   string // below the server's base URL
	Offset int64  // bytes
	Size   int64  // bytes, plain
	Cached bool
}

// Explain says where a node's content comes from and how much of it is here.
// It fetches nothing but catalogs.
func (r *Repository) Explain(ctx context.Context, n view.Node) (Explanation, error) {
	if isVirtual(n) {
		return Explanation{Mode: virtualDirMod}, nil
	}
	p, err := r.at(ctx, n)
	if err != nil {
		return Explanation{}, err
	}
	defer p.release()
	st := p.stat()
	e := Explanation{
		Mode: st.Mode, Size: st.Size, Catalog: p.slot.cat.hash, CatalogAt: p.slot.mount,
		Compression: st.Compression, External: st.Flags&catalog.External != 0,
	}
	if st.Mode&catalog.ModeType != catalog.ModeRegular {
		return e, nil
	}
	whole := st.Flags&catalog.Chunked != 0 && r.o.Cache.Has(cache.Chunked(st.Compression, p.index.Chunks(p.row)))
	for _, o := range objects(p.index, p.row, &st) {
		t := object.Bulk
		if st.Flags&catalog.Chunked != 0 {
			t = object.Partial
		}
		e.Objects = append(e.Objects, StoredObject{
			Hash: o.Hash, Path: object.Path(o.Hash, t), Offset: o.Offset, Size: o.Size,
			Cached: whole || r.o.Cache.Has(cache.Object(o.Hash, st.Compression)),
		})
	}
	return e, nil
}

// objects are what a regular file is made of.
func objects(x *catalog.Index, row uint32, st *catalog.Stat) []catalog.Chunk {
	switch {
	case st.Flags&catalog.Chunked != 0:
		return x.Chunks(row)
	case st.Size == 0:
		return nil
	}
	return []catalog.Chunk{{Size: st.Size, Hash: x.Hash(row)}}
}

// Fetch brings the whole content of a regular file into the cache and returns
// how many bytes of it were not there. An error wraps cache.ErrCannotStore when
// the cache does not take it.
func (r *Repository) Fetch(ctx context.Context, n view.Node) (fetched int64, err error) {
	e, err := r.Explain(ctx, n)
	if err != nil {
		return 0, err
	}
	c, err := r.Open(ctx, n)
	if err != nil {
		return 0, err
	}
	defer c.Close() //nolint:errcheck // read only
	parts, _ := c.(*chunked)
	for i, o := range e.Objects {
		if o.Cached {
			continue
		}
		if parts != nil {
			piece, err := parts.open(ctx, parts.chunks[i], object.Partial)
			if err != nil {
				return fetched, r.failed(ctx, err)
			}
			piece.Close() //nolint:errcheck // read only
		}
		if !r.o.Cache.Has(cache.Object(o.Hash, e.Compression)) {
			return fetched, fmt.Errorf("%w: object %s was read but not kept", cache.ErrCannotStore, o.Hash)
		}
		fetched += o.Size
	}
	return fetched, nil
}

// Found is a regular file below a place that was searched.
type Found struct {
	Path string // in the view
	Node view.Node
	Size int64 // bytes
	// Keys name its contents in the cache. They are good until yield returns.
	Keys []cache.Key
}

// Files calls yield for every regular file that is n or lies below it and is not
// hidden, loading nested catalogs as it goes. An error of yield ends it.
func (r *Repository) Files(ctx context.Context, n view.Node, yield func(Found) error) error {
	p, err := r.at(ctx, n)
	if err != nil {
		return err
	}
	st := p.stat()
	if st.Mode&catalog.ModeType != catalog.ModeDir {
		defer p.release()
		return r.yieldFile(p, &st, nil, yield)
	}
	p.release()
	if p, err = r.within(ctx, n); err != nil {
		return err
	}
	defer p.release()
	return r.files(ctx, p, yield)
}

// files walks the directory p, which the caller releases.
func (r *Repository) files(ctx context.Context, p place, yield func(Found) error) error {
	todo := []uint32{p.row}
	var keys []cache.Key
	for len(todo) > 0 {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		dir := p.index.Stat(todo[len(todo)-1])
		todo = todo[:len(todo)-1]
		for row := dir.First; row < dir.First+dir.Children; row++ {
			child := place{p.attached, p.slot, row}
			st := child.stat()
			var err error
			switch {
			case st.Flags&catalog.Hidden != 0:
			case st.Mode&catalog.ModeType == catalog.ModeRegular:
				err = r.yieldFile(child, &st, keys[:0], yield)
			case st.Flags&mountpoint != 0:
				err = r.filesBelow(ctx, p.slot.node(row), yield)
			case st.Mode&catalog.ModeType == catalog.ModeDir:
				todo = append(todo, row)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Repository) filesBelow(ctx context.Context, n view.Node, yield func(Found) error) error {
	p, err := r.within(ctx, n)
	if err != nil {
		return err
	}
	defer p.release()
	return r.files(ctx, p, yield)
}

// Mapped returns the catalogs whose indexes are mapped now.
func (r *Repository) Mapped() (list []object.Hash) {
	for _, c := range r.catalogs.all() {
		list = append(list, c.hash)
	}
	return list
}

// MappedFiles is Files for all catalogs that are mapped now, wherever they are
// attached. It loads nothing.
func (r *Repository) MappedFiles(ctx context.Context, yield func(Found) error) error {
	now := r.catalogs.clock.Load()
	for _, c := range r.catalogs.all() {
		s, ok := r.slots.byHash(c.hash)
		a := c.acquire(now)
		if a == nil {
			continue
		}
		var err error
		for row := uint32(0); ok && err == nil && int64(row) < int64(a.index.Len()); row++ {
			if row%1024 == 0 && ctx.Err() != nil {
				err = context.Cause(ctx)
				break
			}
			p := place{a, s, row}
			st := p.stat()
			err = r.yieldFile(p, &st, nil, yield)
		}
		a.release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Repository) yieldFile(p place, st *catalog.Stat, keys []cache.Key, yield func(Found) error) error {
	if st.Mode&catalog.ModeType != catalog.ModeRegular {
		return nil
	}
	list := objects(p.index, p.row, st)
	for _, o := range list {
		keys = append(keys, cache.Object(o.Hash, st.Compression))
	}
	if len(list) > 1 {
		keys = append(keys, cache.Chunked(st.Compression, list))
	}
	return yield(Found{
		Path: p.slot.mount + p.index.Path(p.row)[len(p.index.RootPrefix()):],
		Node: p.slot.node(p.row), Size: st.Size, Keys: keys,
	})
}
