// Package tree shows a repository as a POSIX file system: kernel requests flow
// in from a fusefs connection, questions to a [View] out.
//
// It keeps no state about nodes. A node's id in the protocol is computed from
// the view's, so the kernel's reference counts are of no interest and a new
// process answers for an old one. What it does keep is a bounded number of open
// contents, since the protocol without OPEN names a file only by its node.
//
// Everything shown lives as long as the kernel likes: names, attributes, absent
// names, link targets and listings are valid for an hour and renewed unasked.
// What changes with a new revision is told to the kernel, see
// [FS.ShowRoot].
package tree

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/internal/opened"
	"github.com/rootstock-cf/rootstock/fusefs/view"
)

var (
	_ fusefs.FS     = (*FS)(nil)
	_ fusefs.XAttrs = (*FS)(nil)
	_ fusefs.Space  = (*FS)(nil)
)

// Options are the settings of a tree; the zero value is the default.
type Options struct {
	// TTL is how long the kernel may rely on an answer: an hour by default.
	TTL time.Duration

	// Roots are the nodes that the kernel may remember as the root directory,
	// on a connection that another process began; the last one is shown. By
	// default the view's newest root is shown and nothing remembered.
	Roots []view.Node

	// OpenContents bounds the contents kept open while no one reads them:
	// 256 by default. Each may hold file descriptors.
	OpenContents int
}

// FS answers a connection's requests from a view.
type FS struct {
	view     View
	ttl      time.Duration
	contents *opened.Set
	root     atomic.Uint64 // the view.Node that is the mount's root
	shown    shown
}

const (
	// maxName is the longest name of a directory entry in bytes.
	maxName = 255

	blockSize = 4096 // bytes, st_blksize
)

// New returns the file system that shows v. The caller closes it once the
// connection has ended.
func New(v View, o Options) *FS {
	if o.TTL == 0 {
		o.TTL = time.Hour
	}
	if o.OpenContents == 0 {
		o.OpenContents = 256
	}
	f := &FS{view: v, ttl: o.TTL}
	f.contents = opened.New(f.open, o.OpenContents)
	f.root.Store(uint64(v.Root()))
	if last := len(o.Roots) - 1; last >= 0 {
		f.root.Store(uint64(o.Roots[last]))
		f.shown.before = o.Roots[:last:last]
	}
	return f
}

// Close closes the contents that are open. Reads that are under way end well,
// later ones fail.
func (f *FS) Close() error { return f.contents.Close() }

// The ids of the protocol: 0 is no node and 1 the root, whichever node that is
// since the last ShowRoot; the view's nodes begin at 2.
const firstID = 2

func id(n view.Node) uint64 { return uint64(n) + firstID }

func (f *FS) node(id uint64) view.Node {
	if id == fusefs.RootID {
		return view.Node(f.root.Load())
	}
	return view.Node(id - firstID)
}

// Lookup implements [fusefs.Directories].
func (f *FS) Lookup(ctx context.Context, dir uint64, name string, out *fuse.EntryOut) error {
	if len(name) > maxName {
		return fusefs.ErrNameTooLong
	}
	n, a, err := f.view.Lookup(ctx, f.node(dir), name)
	if errors.Is(err, fs.ErrNotExist) {
		out.SetEntryTimeout(f.ttl) // and NodeId 0: absent, and to be remembered
		return nil
	}
	if err != nil {
		return err
	}
	f.entry(out, n, &a)
	return nil
}

func (f *FS) entry(out *fuse.EntryOut, n view.Node, a *view.Attr) {
	out.NodeId = id(n)
	out.SetEntryTimeout(f.ttl)
	out.SetAttrTimeout(f.ttl)
	attr(&out.Attr, a)
}

func attr(out *fuse.Attr, a *view.Attr) {
	*out = fuse.Attr{
		Ino:       a.Ino,
		Size:      uint64(a.Size),
		Blocks:    uint64(a.Blocks),
		Atime:     uint64(a.MTime),
		Mtime:     uint64(a.MTime),
		Ctime:     uint64(a.MTime),
		Atimensec: uint32(a.MTimeNS),
		Mtimensec: uint32(a.MTimeNS),
		Ctimensec: uint32(a.MTimeNS),
		Mode:      a.Mode,
		Nlink:     a.Links,
		Owner:     fuse.Owner{Uid: a.UID, Gid: a.GID},
		Rdev:      uint32(a.Rdev), // the protocol's encoding is its lower half
		Blksize:   blockSize,
	}
}

// Offsets in a directory: that of an entry says where the next one is. "." comes
// first, ".." second, and the view's from-th entry has the offset from+3.
const (
	offDot    = 1
	offDotDot = 2
)

// ReadDir implements [fusefs.Directories].
func (f *FS) ReadDir(ctx context.Context, dir, offset uint64, plus bool, out *fuse.DirEntryList) error {
	add := func(e fuse.DirEntry) (*fuse.EntryOut, bool) {
		if plus {
			o := out.AddDirLookupEntry(e)
			return o, o != nil
		}
		return nil, out.AddDirEntry(e)
	}
	n := f.node(dir)
	if offset < offDot {
		a, err := f.view.Attr(ctx, n)
		if err != nil {
			return err
		}
		if _, ok := add(fuse.DirEntry{Name: ".", Ino: a.Ino, Mode: fuse.S_IFDIR, Off: offDot}); !ok {
			return nil
		}
	}
	if offset < offDotDot {
		if _, ok := add(fuse.DirEntry{Name: "..", Mode: fuse.S_IFDIR, Off: offDotDot}); !ok {
			return nil
		}
		offset = offDotDot
	}
	from := offset - offDotDot
	if from > 1<<31-1 {
		return nil // past the end of any directory
	}
	return f.view.ReadDir(ctx, n, int(from), func(name string, child view.Node, a view.Attr) bool {
		offset++
		o, ok := add(fuse.DirEntry{Name: name, Ino: a.Ino, Mode: a.Mode, Off: offset})
		if o != nil {
			f.entry(o, child, &a)
		}
		return ok
	})
}

// Attr implements [fusefs.Inodes].
func (f *FS) Attr(ctx context.Context, node uint64, out *fuse.AttrOut) error {
	a, err := f.view.Attr(ctx, f.node(node))
	if err != nil {
		return err
	}
	out.SetTimeout(f.ttl)
	attr(&out.Attr, &a)
	return nil
}

// Readlink implements [fusefs.Inodes].
func (f *FS) Readlink(ctx context.Context, node uint64) ([]byte, error) {
	return f.view.Readlink(ctx, f.node(node))
}

// XAttr implements [fusefs.XAttrs]. Programs are executed and overlays made with
// one question each for attributes that most trees do not have at all.
func (f *FS) XAttr(ctx context.Context, node uint64, name string) ([]byte, error) {
	if !f.view.AnyXAttrs() && !computed(name) {
		return nil, view.ErrNoXAttr
	}
	return f.view.XAttr(ctx, f.node(node), name)
}

func computed(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "xfsroot.")
}

// ListXAttr implements [fusefs.XAttrs].
func (f *FS) ListXAttr(ctx context.Context, node uint64) ([]string, error) {
	return f.view.ListXAttr(ctx, f.node(node))
}

// Statfs implements [fusefs.Space].
func (f *FS) Statfs(ctx context.Context) (view.Statfs, error) { return f.view.Statfs(ctx) }
