// Package objects shows contents by their names: one mount per cell on which
// /<2 digits>/<62 digits> is the content of that SHA-256, for every content
// that a tree in use names. It is the last of the data-only layers below a
// container: what the cell's cache does not hold yet, the kernel looks for
// here. Requests flow in from a fusefs connection, questions to a [Source] out.
//
// Contents are found by name alone; a directory lists none of them. A name that
// no tree in use has is absent for the moment only, since the next tree may
// have it: the kernel is not told to remember.
//
// # Node ids
//
// Node ids mean the same content for as long as the connection lives, whichever
// process serves it. Id 1 is the root, 2 to 257 are the directories 00 to ff,
// and 258+n is the n-th content that was ever looked up. Which one that is
// stands in a file ([Options].Numbers), a record of 40 bytes for each, only ever
// appended to: a process that adopts the connection reads it back. Ids are not
// cut out of the digest, since 62 bits of it could be met on purpose, and a tree
// would show its content under another tree's name.
package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/internal/opened"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
)

var (
	_ fusefs.FS    = (*FS)(nil)
	_ fusefs.Space = (*FS)(nil)
)

// Source finds and opens contents. Its methods are called concurrently and
// follow the rules of package view: a context that is already done asks for an
// answer from memory.
type Source interface {
	// Find returns the size in bytes of a content that a tree in use names.
	// It wraps fs.ErrNotExist if none does at this moment.
	Find(ctx context.Context, id object.ContentID) (size int64, err error)

	// Open returns the content, which the caller closes and which outlives
	// ctx. What its ReadAt returns has been verified.
	Open(ctx context.Context, id object.ContentID) (view.Content, error)
}

// Options are the settings of a file system of contents. Only Numbers has no
// default.
type Options struct {
	// Numbers is the file that keeps node ids.
	Numbers string

	// Adopt says that the connection was begun by another process, whose
	// ids the file holds. Otherwise the file begins anew.
	Adopt bool

	// TTL is how long the kernel may rely on a name that is there: an hour
	// by default. What it names never changes.
	TTL time.Duration

	// OpenContents bounds the contents kept open while no one reads them:
	// 256 by default. Each may hold file descriptors.
	OpenContents int
}

// FS answers a connection's requests from a source.
type FS struct {
	source   Source
	ttl      time.Duration
	numbers  *numbers
	contents *opened.Set
	closed   atomic.Bool
}

// The ids of the protocol.
const (
	firstDir     = fusefs.RootID + 1
	directories  = 256
	firstContent = firstDir + directories
)

// errSize reports a content that is not as long as was found.
var errSize = errors.New("content has another size than its tree says")

// New returns the file system that shows what s knows. The caller closes it
// once the connection has ended.
func New(s Source, o Options) (*FS, error) {
	if o.TTL == 0 {
		o.TTL = time.Hour
	}
	if o.OpenContents == 0 {
		o.OpenContents = 256
	}
	n, err := openNumbers(o.Numbers, o.Adopt)
	if err != nil {
		return nil, fmt.Errorf("node ids of the objects mount: %w", err)
	}
	f := &FS{source: s, ttl: o.TTL, numbers: n}
	f.contents = opened.New(f.open, o.OpenContents)
	return f, nil
}

// Close closes the contents that are open and the file of node ids. Reads that
// are under way end well; whatever comes later fails.
func (f *FS) Close() error {
	f.closed.Store(true)
	return errors.Join(f.contents.Close(), f.numbers.close())
}

func (f *FS) alive() error {
	if f.closed.Load() {
		return fmt.Errorf("objects mount: %w", fs.ErrClosed)
	}
	return nil
}

// Lookup implements [fusefs.Directories].
func (f *FS) Lookup(ctx context.Context, dir uint64, name string, out *fuse.EntryOut) error {
	if err := f.alive(); err != nil {
		return err
	}
	if dir == fusefs.RootID {
		xx, ok := parseDir(name)
		if !ok {
			return fs.ErrNotExist
		}
		f.entry(out, firstDir+uint64(xx), 0)
		return nil
	}
	if dir >= firstContent {
		return view.ErrNotDir
	}
	id, ok := parseName(byte(dir-firstDir), name)
	if !ok {
		return fs.ErrNotExist
	}
	size, err := f.source.Find(ctx, id)
	if err != nil {
		return err
	}
	n, err := f.numbers.of(id, size)
	if err != nil {
		return err
	}
	f.entry(out, firstContent+uint64(n), size)
	return nil
}

func (f *FS) entry(out *fuse.EntryOut, node uint64, size int64) {
	out.NodeId = node
	out.SetEntryTimeout(f.ttl)
	out.SetAttrTimeout(f.ttl)
	attr(&out.Attr, node, size)
}

// Contents can be read by all, like those in the cache: who may get at them is
// for the overlay above to say. They have no time, as the overlay shows the
// tree's.
func attr(out *fuse.Attr, node uint64, size int64) {
	const blockSize = 4096
	*out = fuse.Attr{Ino: node, Mode: fuse.S_IFDIR | 0o555, Nlink: 2, Blksize: blockSize}
	if node >= firstContent {
		out.Mode, out.Nlink = fuse.S_IFREG|0o444, 1
		out.Size, out.Blocks = uint64(size), uint64(size+511)/512 // #nosec G115 -- not negative
	}
	if node == fusefs.RootID {
		out.Nlink = 2 + directories
	}
}

// ReadDir implements [fusefs.Directories]: the root lists its directories, and
// these nothing.
func (f *FS) ReadDir(_ context.Context, dir, offset uint64, plus bool, out *fuse.DirEntryList) error {
	if dir >= firstContent {
		return view.ErrNotDir
	}
	last := uint64(2)
	if dir == fusefs.RootID {
		last += directories
	}
	for ; offset < last; offset++ {
		e := fuse.DirEntry{Name: ".", Ino: dir, Mode: fuse.S_IFDIR, Off: offset + 1}
		switch offset {
		case 0:
		case 1:
			e.Name, e.Ino = "..", fusefs.RootID
		default:
			e.Name, e.Ino = dirName(byte(offset-2)), firstDir+offset-2
		}
		if !plus {
			if !out.AddDirEntry(e) {
				return nil
			}
			continue
		}
		o := out.AddDirLookupEntry(e)
		if o == nil {
			return nil
		}
		if offset > 1 { // the kernel wants no lookups of "." and ".."
			f.entry(o, e.Ino, 0)
		}
	}
	return nil
}

// Attr implements [fusefs.Inodes].
func (f *FS) Attr(_ context.Context, node uint64, out *fuse.AttrOut) error {
	if err := f.alive(); err != nil {
		return err
	}
	var size int64
	if node >= firstContent {
		var err error
		if _, size, err = f.numbers.at(node - firstContent); err != nil {
			return err
		}
	}
	out.SetTimeout(f.ttl)
	attr(&out.Attr, node, size)
	return nil
}

// Readlink implements [fusefs.Inodes]: there are no symbolic links.
func (f *FS) Readlink(context.Context, uint64) ([]byte, error) { return nil, view.ErrInvalid }

// ReadAt implements [fusefs.Files].
func (f *FS) ReadAt(ctx context.Context, node uint64, p []byte, off int64) (int, error) {
	if node < firstContent {
		return 0, view.ErrInvalid
	}
	return f.contents.ReadAt(ctx, view.Node(node), p, off)
}

func (f *FS) open(ctx context.Context, n view.Node) (view.Content, error) {
	id, size, err := f.numbers.at(uint64(n) - firstContent)
	if err != nil {
		return nil, err
	}
	c, err := f.source.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	if c.Size() != size {
		err := fmt.Errorf("content %s: %w: %d and %d bytes", id, errSize, c.Size(), size)
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Statfs implements [fusefs.Space]. The mount takes no space of its own.
func (f *FS) Statfs(context.Context) (view.Statfs, error) {
	return view.Statfs{BlockSize: 4096, NameMax: uint32(nameDigits)}, nil
}
