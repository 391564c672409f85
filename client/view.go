package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// maxName is the longest name a directory can hold, in bytes.
const maxName = 255

// mountpoint are the flags of rows whose children are in another catalog.
const mountpoint = catalog.NestedMountpoint | catalog.BindMountpoint

// place is a row of an attached catalog; whoever got it releases the catalog.
type place struct {
	*attached
	slot *slot
	row  uint32
}

func (p place) stat() catalog.Stat { return p.index.Stat(p.row) }

// path is where the entry is seen, from the root of the view.
func (p place) path() string { return p.slot.mount + p.index.Path(p.row)[len(p.index.RootPrefix()):] }

// at finds a node's row. What a node is does not depend on the network once
// its catalog is attached.
func (r *Repository) at(ctx context.Context, n view.Node) (place, error) {
	s := r.slots.at(uint32(n >> rowBits)) // #nosec G115 -- a node beyond MaxNode is of no slot
	if s == nil {
		return place{}, view.ErrStale
	}
	a, err := r.use(ctx, s)
	if err != nil {
		return place{}, r.failed(ctx, err)
	}
	row := uint32(n) // #nosec G115 -- the low half
	if int64(row) >= int64(a.index.Len()) {
		a.release()
		return place{}, view.ErrStale
	}
	return place{a, s, row}, nil
}

// within finds the row whose children are those of the directory n: that of
// n, or the root of the catalog mounted there.
func (r *Repository) within(ctx context.Context, n view.Node) (place, error) {
	p, err := r.at(ctx, n)
	if err != nil {
		return p, err
	}
	st := p.stat()
	if st.Mode&catalog.ModeType != catalog.ModeDir {
		p.release()
		return place{}, view.ErrNotDir
	}
	if st.Flags&mountpoint == 0 {
		return p, nil
	}
	s, err := r.child(p.slot, p.index, p.row, st.Flags&catalog.BindMountpoint != 0)
	p.release()
	if err != nil {
		return place{}, r.failed(ctx, err)
	}
	a, err := r.use(ctx, s)
	if err != nil {
		return place{}, r.failed(ctx, err)
	}
	return place{a, s, 0}, nil
}

// failed counts an error of the repository and makes sure that it does not
// pass for the absence of a file, which only a catalog can prove.
func (r *Repository) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	r.ioErrors.Add(1)
	r.lastError.Store(r.o.Clock().Unix())
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}

// Lookup finds a name in a directory, hidden ones too. The error is
// fs.ErrNotExist only if the catalog proves it.
func (r *Repository) Lookup(ctx context.Context, parent view.Node, name string) (view.Node, view.Attr, error) {
	if isVirtual(parent) {
		return r.lookupVirtual(ctx, parent, name)
	}
	if len(name) > maxName {
		return 0, view.Attr{}, fs.ErrNotExist
	}
	p, err := r.within(ctx, parent)
	if err != nil {
		return 0, view.Attr{}, err
	}
	defer p.release()
	var buf [maxName]byte
	row, ok := p.index.Child(p.row, buf[:copy(buf[:], name)])
	if !ok {
		if n, ok := r.virtual(p, parent, name); ok {
			return n, r.virtualAttr(n), nil
		}
		return 0, view.Attr{}, fs.ErrNotExist
	}
	p.row = row
	return p.slot.node(row), r.attr(p), nil
}

// Attr is what stat(2) says about a node.
func (r *Repository) Attr(ctx context.Context, n view.Node) (view.Attr, error) {
	if isVirtual(n) {
		return r.virtualAttr(n), nil
	}
	p, err := r.at(ctx, n)
	if err != nil {
		return view.Attr{}, err
	}
	defer p.release()
	return r.attr(p), nil
}

// attr translates a row (CVMFS-FORMAT 2.4).
func (r *Repository) attr(p place) view.Attr {
	st := p.stat()
	a := view.Attr{
		Ino:  uint64(p.slot.node(st.FirstLink)),
		Mode: st.Mode, UID: st.UID, GID: st.GID, Links: st.Links,
		Size: st.Size, MTime: st.MTime, MTimeNS: max(0, st.MTimeNS),
	}
	if r.o.Owner != nil {
		a.UID, a.GID = r.o.Owner.UID, r.o.Owner.GID
	}
	switch st.Mode & catalog.ModeType {
	case catalog.ModeSymlink:
		a.Size = int64(len(r.expand(p.index.Symlink(p.row))))
	case catalog.ModeBlock, catalog.ModeChar:
		a.Rdev, a.Size = uint64(st.Size), 0 // #nosec G115 -- stored as st_rdev was
	case catalog.ModeFIFO, catalog.ModeSocket:
		a.Size = 0
	}
	a.Blocks = (a.Size + 511) / 512
	return a
}

// ReadDir calls add with the entries that are not hidden, in bytewise order,
// from the from-th on, until it returns false. Of a mountpoint's own
// attributes the parent's row is the authority, so listing a directory loads
// no catalog but the one that has its entries.
func (r *Repository) ReadDir(ctx context.Context, dir view.Node, from int, add func(name string, n view.Node, a view.Attr) bool) error {
	if isVirtual(dir) {
		return nil
	}
	p, err := r.within(ctx, dir)
	if err != nil {
		return err
	}
	defer p.release()
	st := p.stat()
	for row := st.First; row < st.First+st.Children; row++ {
		p.row = row
		if p.stat().Flags&catalog.Hidden != 0 {
			continue
		}
		if from > 0 {
			from--
			continue
		}
		if !add(string(p.index.Name(row)), p.slot.node(row), r.attr(p)) {
			return nil
		}
	}
	return nil
}

// Readlink returns a symbolic link's target with its variables expanded.
func (r *Repository) Readlink(ctx context.Context, n view.Node) ([]byte, error) {
	if isVirtual(n) {
		return nil, view.ErrInvalid
	}
	p, err := r.at(ctx, n)
	if err != nil {
		return nil, err
	}
	defer p.release()
	if p.stat().Mode&catalog.ModeType != catalog.ModeSymlink {
		return nil, view.ErrInvalid
	}
	target := append([]byte(nil), r.expand(p.index.Symlink(p.row))...)
	if len(target) > maxTarget {
		return nil, fmt.Errorf("%w: a symbolic link expands to %d bytes", view.ErrInvalid, len(target))
	}
	return target, nil
}

// Statfs describes the cache as the space and the entries of the catalogs as
// the inodes, as stock clients do.
func (r *Repository) Statfs(ctx context.Context) (view.Statfs, error) {
	const block = 4096
	p, err := r.at(ctx, r.Root())
	if err != nil {
		return view.Statfs{}, err
	}
	defer p.release()
	self, subtree := p.index.Counters()
	all := self.Add(subtree)
	s := r.o.Cache.Stats()
	total := max(s.Quota, s.Bytes)
	return view.Statfs{
		BlockSize: block, NameMax: maxName,
		Blocks:     uint64(total) / block,                                                  // #nosec G115 -- not negative
		BlocksFree: uint64(total-s.Bytes) / block,                                          // #nosec G115
		Files:      uint64(max(0, all.Regular+all.Symlink+all.Special+all.Dir-all.Nested)), // #nosec G115
	}, nil
}
