package fusefs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

var _ fuse.RawFileSystem = (*bridge)(nil)

// rootAlias stands for the root directory between the read loop and the bridge.
// go-fuse keeps a name of its own in the directory with the root's real id; a
// tree has all names to itself.
const rootAlias = 1 << 63

// maxXAttr is the kernel's limit on the bytes of a value and of a list of names.
const maxXAttr = 64 << 10

// bridge is the FS as go-fuse's decoder wants to call it: it finds the request's
// context and turns errors into numbers. Everything it does not answer is
// ENOSYS, which the kernel remembers: that is the point for OPEN, FLUSH,
// OPENDIR, FSYNC, ACCESS, LSEEK and STATX.
type bridge struct {
	readOnly
	fs     FS
	xattrs XAttrs // nil: ENOSYS
	space  Space  // nil: ENOSYS
	tasks  *tasks
}

func newBridge(f FS, noXAttrs bool, t *tasks) *bridge {
	b := &bridge{readOnly: readOnly{fuse.NewDefaultRawFileSystem()}, fs: f, tasks: t}
	if x, ok := f.(XAttrs); ok && !noXAttrs {
		b.xattrs = x
	}
	b.space, _ = f.(Space)
	return b
}

func (b *bridge) String() string { return "rootstock" }

func node(id uint64) uint64 {
	if id == rootAlias {
		return RootID
	}
	return id
}

// answer makes a reply's status of err, keeping what it says for the log.
func (b *bridge) answer(ctx context.Context, err error, h *fuse.InHeader) fuse.Status {
	st := status(ctx, err)
	if st == fuse.EIO {
		b.tasks.failed(h.Opcode, node(h.NodeId), err)
	}
	return st
}

// present is for questions about a node that exists, where "does not exist" can
// only be a failure that must not look like an answer.
func (b *bridge) present(ctx context.Context, err error, h *fuse.InHeader) fuse.Status {
	st := status(ctx, err)
	if st == fuse.ENOENT {
		st = fuse.EIO
		if ctx == noWait {
			return undecided
		}
	}
	if st == fuse.EIO {
		b.tasks.failed(h.Opcode, node(h.NodeId), err)
	}
	return st
}

func (b *bridge) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	ctx := b.tasks.context(h.Unique)
	return b.answer(ctx, b.fs.Lookup(ctx, node(h.NodeId), name, out), h)
}

func (b *bridge) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	ctx := b.tasks.context(in.Unique)
	return b.present(ctx, b.fs.Attr(ctx, node(in.NodeId), out), &in.InHeader)
}

func (b *bridge) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	ctx := b.tasks.context(h.Unique)
	target, err := b.fs.Readlink(ctx, node(h.NodeId))
	return target, b.present(ctx, err, h)
}

func (b *bridge) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	ctx := b.tasks.context(in.Unique)
	return b.present(ctx, b.fs.ReadDir(ctx, node(in.NodeId), in.Offset, false, out), &in.InHeader)
}

func (b *bridge) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	ctx := b.tasks.context(in.Unique)
	return b.present(ctx, b.fs.ReadDir(ctx, node(in.NodeId), in.Offset, true, out), &in.InHeader)
}

func (b *bridge) Read(_ <-chan struct{}, in *fuse.ReadIn, p []byte) (fuse.ReadResult, fuse.Status) {
	ctx := b.tasks.context(in.Unique)
	n, err := b.fs.ReadAt(ctx, node(in.NodeId), p, int64(in.Offset))
	if err != nil {
		return nil, b.present(ctx, err, &in.InHeader)
	}
	return filled(p[:n]), fuse.OK
}

func (b *bridge) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if b.xattrs == nil {
		return 0, fuse.ENOSYS
	}
	ctx := b.tasks.context(h.Unique)
	value, err := b.xattrs.XAttr(ctx, node(h.NodeId), name)
	switch {
	case err != nil:
		return 0, b.present(ctx, err, h)
	case len(value) > maxXAttr:
		return 0, fuse.Status(syscall.E2BIG)
	case len(value) > len(dest):
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

func (b *bridge) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if b.xattrs == nil {
		return 0, fuse.ENOSYS
	}
	ctx := b.tasks.context(h.Unique)
	names, err := b.xattrs.ListXAttr(ctx, node(h.NodeId))
	if err != nil {
		return 0, b.present(ctx, err, h)
	}
	size := 0
	for _, n := range names {
		size += len(n) + 1
	}
	switch {
	case size > maxXAttr:
		return 0, fuse.Status(syscall.E2BIG)
	case size > len(dest):
		return uint32(size), fuse.ERANGE
	}
	at := 0
	for _, n := range names {
		at += copy(dest[at:], n)
		dest[at] = 0
		at++
	}
	return uint32(size), fuse.OK
}

func (b *bridge) StatFs(_ <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	if b.space == nil {
		return fuse.ENOSYS
	}
	ctx := b.tasks.context(h.Unique)
	s, err := b.space.Statfs(ctx)
	if err != nil {
		return b.present(ctx, err, h)
	}
	*out = fuse.StatfsOut{
		Blocks:  s.Blocks,
		Bfree:   s.BlocksFree,
		Bavail:  s.BlocksFree,
		Files:   s.Files,
		Ffree:   s.FilesFree,
		Bsize:   s.BlockSize,
		Frsize:  s.BlockSize,
		NameLen: s.NameMax,
	}
	return fuse.OK
}

// filled is the result of a READ that lies in the reply's buffer already, so
// that go-fuse need not copy it there.
type filled []byte

func (f filled) Bytes([]byte) ([]byte, fuse.Status) { return f, fuse.OK }
func (f filled) Readv([][]byte) (int, fuse.Status)  { return len(f), fuse.OK }
func (f filled) Size() int                          { return len(f) }
func (f filled) Done()                              {}
