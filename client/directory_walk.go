package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// Bounds of a directory that is compiled, which takes about 1 kB of memory for
// each entry meanwhile. One that is beyond them is shown by the repository's
// mount, which needs no more of it than is looked at.
const (
	maxDirectoryEntries = 400_000
	maxDirectoryBytes   = 256 << 20 // of paths, targets, xattrs and lists of chunks
	// catalogsAhead is how many nested catalogs are fetched at a time.
	catalogsAhead = 8
	// marker is the file by which CernVM-FS knows a nested catalog.
	marker = ".cvmfscatalog"
)

// directoryWalk is what the catalogs say of a directory.
type directoryWalk struct {
	r       *Repository
	ctx     context.Context //nolint:containedctx // for the time of the walk
	ahead   *errgroup.Group
	most    int
	bytes   int64
	links   uint32
	entries []imagemeta.Entry
	objects []imagemeta.Object
	sizes   map[object.ContentID]int64 // of objects
	names   map[string]struct{}        // of variables
}

// walkDirectory goes through a directory's catalogs, which may have most entries.
func (r *Repository) walkDirectory(ctx context.Context, d Directory, most int) (*directoryWalk, error) {
	a, err := r.attach(ctx, r.catalogs.of(d.Catalog, d.Size))
	if err != nil {
		return nil, err
	}
	defer a.release()
	row, ok := a.index.Find(d.Path)
	if st := a.index.Stat(row); !ok || st.Mode&catalog.ModeType != catalog.ModeDir || st.Flags&mountpoint != 0 {
		return nil, fmt.Errorf("%w: the catalog has no such directory", ErrInconsistent)
	}
	likely := 0 // entries
	if row == 0 {
		// What the catalogs say of themselves spares fetching too many of them.
		self, subtree := a.index.Counters()
		all := self.Add(subtree)
		n := all.Regular + all.Symlink + all.Special + all.Dir
		if n > int64(most) {
			return nil, tooMany(n, most)
		}
		likely = int(min(max(n, 0), int64(a.index.Len()))) // no more than there are for sure
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &directoryWalk{
		r: r, ctx: ctx, most: most, ahead: &errgroup.Group{},
		entries: make([]imagemeta.Entry, 0, likely), objects: make([]imagemeta.Object, 0, likely),
		sizes: make(map[object.ContentID]int64, likely), names: map[string]struct{}{},
	}
	w.ahead.SetLimit(catalogsAhead)
	defer w.ahead.Wait() //nolint:errcheck // they return none
	defer cancel()
	if err := w.add(a.index, row, ""); err != nil {
		return nil, err
	}
	w.fetchNested(a.index, a.index.Path(row))
	if err := w.children(a.index, row, ""); err != nil {
		return nil, err
	}
	w.finish()
	return w, nil
}

func tooMany(n int64, most int) error {
	return fmt.Errorf("%w: %d entries, more than %d", imagemeta.ErrTooLarge, n, most)
}

// fetchNested has the catalogs below a directory fetched while their parent's
// rows are read. Whoever needs one is told of a failure.
func (w *directoryWalk) fetchNested(x *catalog.Index, below string) {
	for _, n := range x.Nested() {
		if w.ctx.Err() != nil {
			return
		}
		if !strings.HasPrefix(n.Path, below+"/") || n.Hash.IsZero() {
			continue
		}
		c := w.r.catalogs.of(n.Hash, n.Size)
		if !w.ahead.TryGo(func() error {
			if a, err := w.r.attach(w.ctx, c); err == nil {
				a.release()
			}
			return nil
		}) {
			return // the walk itself has to do with the rest
		}
	}
}

// children adds what a directory holds, at path in the tree.
func (w *directoryWalk) children(x *catalog.Index, dir uint32, path string) error {
	if path != "" {
		path += "/"
	}
	st := x.Stat(dir)
	var groups map[uint32]int // first entry of a hard link group, by its row
	for row := st.First; row < st.First+st.Children; row++ {
		one := x.Stat(row)
		name := string(x.Name(row))
		if one.Flags&catalog.Hidden != 0 || name == marker && one.Mode&catalog.ModeType == catalog.ModeRegular {
			continue
		}
		if err := w.add(x, row, path+name); err != nil {
			return err
		}
		switch {
		case one.Mode&catalog.ModeType != catalog.ModeDir:
			if one.Group == 0 {
				continue
			}
			if groups == nil {
				groups = map[uint32]int{}
			}
			w.link(groups, one.FirstLink)
		case one.Flags&mountpoint != 0:
			if err := w.nested(x, row, path+name, one.Flags&catalog.BindMountpoint != 0); err != nil {
				return err
			}
		default:
			if err := w.children(x, row, path+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// nested adds what the catalog mounted at a row holds.
func (w *directoryWalk) nested(x *catalog.Index, row uint32, path string, bind bool) error {
	n, ok := x.NestedAt(row)
	if !ok || n.Hash.IsZero() {
		return fmt.Errorf("%w: %s is a mountpoint of no catalog", ErrInconsistent, x.Path(row))
	}
	a, err := w.r.attach(w.ctx, w.r.catalogs.of(n.Hash, n.Size))
	if err != nil {
		return fmt.Errorf("catalog %s at %q: %w", n.Hash, n.Path+"/", err)
	}
	defer a.release()
	if got := a.index.RootPrefix(); !bind && got != n.Path {
		return fmt.Errorf("%w: catalog %s at %q says it belongs at %q", ErrInconsistent, n.Hash, n.Path, got)
	}
	w.fetchNested(a.index, a.index.RootPrefix())
	return w.children(a.index, 0, path)
}

// link puts the last entry into the hard link group that begins at a row.
func (w *directoryWalk) link(groups map[uint32]int, first uint32) {
	last := len(w.entries) - 1
	at, ok := groups[first]
	if !ok {
		groups[first] = last
		return
	}
	a, b := &w.entries[at], &w.entries[last]
	b.Link = a.Link
	if !imagemeta.SameFile(a, b) {
		b.Link = 0
		return
	}
	if a.Link == 0 {
		w.links++
		a.Link, b.Link = w.links, w.links
	}
}

// add adds an entry.
func (w *directoryWalk) add(x *catalog.Index, row uint32, path string) error {
	if len(w.entries)%1024 == 0 && w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	e, err := w.entry(x, row, path)
	if err == nil {
		err = imagemeta.CheckLimits(&e)
	}
	if err != nil {
		if errors.Is(err, imagemeta.ErrInvalid) { // what no listing can hold
			err = fmt.Errorf("%w: %w", imagemeta.ErrUnsupported, err)
		}
		return err
	}
	w.bytes += int64(len(path) + len(e.Target))
	for _, a := range e.XAttrs {
		w.bytes += int64(len(a.Name) + len(a.Value))
	}
	w.entries = append(w.entries, e)
	if n := len(w.entries); n > w.most {
		return tooMany(int64(n), w.most)
	}
	if w.bytes > maxDirectoryBytes {
		return fmt.Errorf("%w: names and attributes have more than %d bytes", imagemeta.ErrTooLarge, int64(maxDirectoryBytes))
	}
	return nil
}

// entry translates a row, as [Repository.attr] does.
func (w *directoryWalk) entry(x *catalog.Index, row uint32, path string) (e imagemeta.Entry, err error) {
	st := x.Stat(row)
	e = imagemeta.Entry{
		Path: path, Mode: st.Mode, UID: st.UID, GID: st.GID, MTime: st.MTime, Nsec: uint32(max(0, st.MTimeNS)), // #nosec G115 -- not negative
	}
	if o := w.r.o.Owner; o != nil {
		e.UID, e.GID = o.UID, o.GID
	}
	switch st.Mode & catalog.ModeType {
	case catalog.ModeRegular:
		if err := w.content(x, row, &st, &e); err != nil {
			return e, fmt.Errorf("%q: %w", path, err)
		}
	case catalog.ModeSymlink:
		raw := x.Symlink(row)
		e.Target = string(w.r.expand(raw))
		if err := w.note(raw); err != nil {
			return e, fmt.Errorf("%q: %w", path, err)
		}
	case catalog.ModeBlock, catalog.ModeChar:
		dev := uint64(st.Size) // #nosec G115 -- stored as st_rdev was
		e.Major, e.Minor = unix.Major(dev), unix.Minor(dev)
	}
	if !x.HasXAttrs(row) {
		return e, nil
	}
	stored, err := x.XAttrs(row)
	if err != nil {
		return e, fmt.Errorf("%q: %w", path, err)
	}
	for _, a := range stored {
		if !strings.HasPrefix(a.Name, ownPrefix) {
			e.XAttrs = append(e.XAttrs, imagemeta.XAttr{Name: a.Name, Value: a.Value})
		}
	}
	return e, nil
}

// content says what a file holds, and where that is stored.
func (w *directoryWalk) content(x *catalog.Index, row uint32, st *catalog.Stat, e *imagemeta.Entry) error {
	e.Size, e.Content = st.Size, object.EmptyContent
	switch {
	case st.Size == 0:
		return nil
	case st.Flags&catalog.External != 0:
		return fmt.Errorf("%w: its content lies outside the repository", imagemeta.ErrUnsupported)
	case !st.Compression.Valid():
		return fmt.Errorf("%w: compression %s", imagemeta.ErrUnsupported, st.Compression)
	}
	stored := imagemeta.Stored{Size: st.Size, Compression: st.Compression}
	if st.Flags&catalog.Chunked != 0 {
		chunks := x.Chunks(row)
		e.Content = cache.Chunked(st.Compression, chunks).ID()
		w.bytes += int64(len(chunks)) * 64
		for _, c := range chunks {
			stored.Chunks = append(stored.Chunks, imagemeta.Chunk{Size: c.Size, Hash: c.Hash})
		}
	} else {
		if stored.Hash = x.Hash(row); stored.Hash.IsZero() {
			return fmt.Errorf("%w: a file without a hash", ErrInconsistent)
		}
		e.Content = cache.Object(stored.Hash, st.Compression).ID()
	}
	size, known := w.sizes[e.Content]
	if !known {
		w.sizes[e.Content] = st.Size
		w.objects = append(w.objects, imagemeta.Object{ID: e.Content, Stored: stored})
	} else if size != st.Size {
		return fmt.Errorf("%w: one object with %d and %d bytes", ErrInconsistent, size, st.Size)
	}
	return nil
}

// note remembers the variables of a link.
func (w *directoryWalk) note(target []byte) error {
	for name := range variablesOf(target) {
		if _, known := w.names[name]; known {
			continue
		}
		w.names[name] = struct{}{}
		if len(w.variables()) > maxVariables {
			return fmt.Errorf("%w: its links depend on too many variables", imagemeta.ErrUnsupported)
		}
	}
	return nil
}

// variables is the list that splitVariables reads.
func (w *directoryWalk) variables() []byte {
	return []byte("\x00" + strings.Join(slices.Sorted(maps.Keys(w.names)), "\x00"))
}

// finish numbers hard link groups in the order of their first members.
func (w *directoryWalk) finish() {
	order := make([]uint32, w.links+1)
	n := uint32(0)
	for i := range w.entries {
		l := w.entries[i].Link
		if l == 0 {
			continue
		}
		if order[l] == 0 {
			n++
			order[l] = n
		}
		w.entries[i].Link = order[l]
	}
}
