// Package flatten applies the layers of an image, lowest first and as the OCI
// image specification says, and gives the tree that results, without writing
// any of it to a disk: names and metadata become entries of package imagemeta,
// contents go to an [Ingester].
//
// Layers are read highest first, so that the contents of files which a higher
// layer hides are skipped rather than stored. The recorded headers are then
// applied lowest first. Where a hidden file's content is needed after all (a
// hard link to it lives on), its layer is read a second time for it. A single
// layer is always one pass.
//
// Everything a layer says is hostile input. Symbolic links of the tree are
// resolved only where a name needs one as a directory, only among the entries
// in memory and never above the root.
package flatten

import (
	"context"
	"errors"
	"io"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

var (
	// ErrFormat reports a stream that is not a tar, or one that is damaged.
	ErrFormat = errors.New("not a tar")
	// ErrTruncated reports a tar that ends before its end.
	ErrTruncated = errors.New("tar ends early")
	// ErrHostile reports an entry that no honest tool writes: climbing or
	// absolute names, loops of links, values no file system can hold.
	ErrHostile = errors.New("refused")
	// ErrConflict reports entries that contradict each other, such as a hard
	// link to nothing or a file used as a directory.
	ErrConflict = errors.New("entries contradict each other")
	// ErrUnsupported reports what an image may hold but a published tree may
	// not.
	ErrUnsupported = errors.New("cannot be published")
	// ErrLimit reports input beyond one of the Options.
	ErrLimit = errors.New("over the limit")
)

// Layer is what this package needs of a layer: a stream of its uncompressed
// tar, which fails instead of ending if it was not what it should be.
//
// If a layer is a fmt.Stringer, that names it in messages. If it has a method
// DiffID() string that is not empty before the layer is read, the stream is
// taken to be proved by it, and a missing end-of-archive mark, which some
// builders leave out, is forgiven.
type Layer interface {
	Open(ctx context.Context) (io.ReadCloser, error)
}

// Ingester is where contents go. Calls come one at a time.
type Ingester interface {
	// Take reads exactly size bytes of r before it returns, stores them under
	// their content id and tells that to named, from any goroutine, before
	// Settle returns. It is called for empty files too.
	Take(ctx context.Context, size int64, r io.Reader, named func(object.ContentID)) error
	// Settle returns when all that was taken has been named, or with the
	// error for which something has not.
	Settle() error
}

// Options bounds what the layers may hold. The zero value means the defaults.
type Options struct {
	// MaxEntries bounds the entries of all layers together; 0 is 10 million.
	MaxEntries int
	// MaxBytes bounds the sizes of all files of all layers together, holes
	// of sparse files included; 0 is 256 GiB.
	MaxBytes int64
	// Plain says that the layers are not those of an image: names that begin
	// with ".wh." are names like any other, and remove nothing. There is
	// then nothing below to remove anything from.
	Plain bool
	// Watch, if not nil, is asked about each content before it is ingested,
	// under the name a layer gives it: not the final tree's, which may hide,
	// link or move it. It may return nil.
	Watch func(path string, mode uint32, size int64) Watcher
	// Memory, if not nil, keeps what layers say. It is asked only for layers
	// whose DiffID is known before they are read, and only if the Ingester
	// is an Adopter. Watch does not see contents that were adopted.
	Memory Memory
}

// Watcher sees a content as the Ingester reads it. An error of Write ends the
// flattening.
type Watcher interface {
	io.Writer
	// Done tells the content's id when all of it was written. It is called
	// from another goroutine, while others are watching and done.
	Done(id object.ContentID)
}

func (o Options) withDefaults() Options {
	if o.MaxEntries <= 0 {
		o.MaxEntries = 10_000_000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 30
	}
	return o
}

// Note is something in a layer that the tree leaves out on purpose.
type Note struct {
	Layer string
	Path  string
	Text  string
}

// Totals counts what was read and what became of it. Sizes are bytes.
type Totals struct {
	Read     int   // tar entries in all layers
	Ingested int64 // handed to the Ingester
	Skipped  int64 // of hidden files, never handed on
	Recalled int64 // adopted: the Ingester had them from an earlier run
	Entries  int   // names in the tree, the root included
	Files    int   // regular files, hard links counted once
	Bytes    int64 // of those
}

// Tree is the result.
type Tree struct {
	entries []imagemeta.Entry
	// Notes holds at most the first thousand; MoreNotes counts the others.
	Notes     []Note
	MoreNotes int
	Totals    Totals
}

// Entries lists the tree in canonical order (imagemeta.Entry). The caller may
// keep the slice.
func (t *Tree) Entries() []imagemeta.Entry { return t.entries }

const maxNotes = 1000

// take adds what was noted of a layer.
func (t *Tree) take(s *scan) {
	room := min(len(s.notes), maxNotes-len(t.Notes))
	t.Notes = append(t.Notes, s.notes[:room]...)
	t.MoreNotes += len(s.notes) - room + s.moreNotes
}

// Flatten applies layers, given lowest first. Contents are ingested as they are
// met, so an error leaves contents behind that nothing names. Errors of layers
// and of in are wrapped with the layer's name.
func Flatten[L Layer](ctx context.Context, layers []L, in Ingester, o Options) (*Tree, error) {
	f := &flattener{in: in, options: o.withDefaults(), tree: &Tree{}}
	scans := make([]*scan, len(layers))
	var hidden *veil
	if len(layers) > 1 {
		hidden = newVeil()
	}
	for i := len(layers) - 1; i >= 0; i-- {
		s := &scan{name: layerName(layers[i], i), proved: isProved(layers[i]), number: int32(i)} //nolint:gosec // few
		if ok, err := f.recall(layers[i], s, hidden); err != nil {
			return nil, err
		} else if !ok {
			if err := f.read(ctx, layers[i], s, hidden); err != nil {
				return nil, err
			}
		}
		f.tree.take(s)
		if i > 0 {
			hidden.add(s.records)
		}
		scans[i] = s
	}
	if err := in.Settle(); err != nil {
		return nil, err
	}
	root := newRoot()
	for _, s := range scans {
		if err := root.apply(ctx, s); err != nil {
			return nil, err
		}
		if f.options.Memory == nil {
			s.records = nil // the tree has what it needs
		}
	}
	layer := func(i int) Layer { return layers[i] }
	if err := f.adopt(ctx, root); err != nil {
		return nil, err
	}
	if err := f.complete(ctx, root, layer, scans); err != nil {
		return nil, err
	}
	f.remember(layer, scans)
	var err error
	f.tree.entries, err = root.entries(&f.tree.Totals)
	return f.tree, err
}

// flattener is the state of one call of Flatten.
type flattener struct {
	in      Ingester
	options Options
	tree    *Tree
	bytes   int64
	inline  int64 // bytes of hidden contents kept
}
