// Package view is the vocabulary between whoever knows a repository's tree and
// whoever shows it through the kernel: node ids, attributes, open contents and
// the error kinds that both sides agree on. Package client produces them,
// package fusefs/tree consumes them.
//
// It is a leaf: it imports nothing of this module and holds no behaviour.
//
// # What a view promises
//
// The methods a tree needs (package fusefs/tree declares them) follow these
// rules, which package fusefs/viewtest checks:
//
//   - All methods may be called concurrently.
//   - A [Node] means the same thing for as long as the process lives; what its
//     content, attributes and children are never changes. What changes is only
//     which node is the root.
//   - A context that is already done asks for an answer from memory. The view
//     answers if it can; where it would have to wait for a network, a lock held
//     over one, or longer work such as compiling a catalog, it returns an error
//     instead, and the caller asks again from a place that may wait.
//   - Errors wrap the kinds named here, [io/fs.ErrNotExist], or the context's
//     error. Everything else is a failure of the view (EIO to the user).
package view

import (
	"context"
	"errors"
)

var (
	// ErrNoXAttr reports that a file has no extended attribute of that name
	// (ENODATA).
	ErrNoXAttr = errors.New("no such extended attribute")

	// ErrStale reports a node that the view does not know, such as one
	// handed out by an earlier process (ESTALE; the kernel then looks the
	// name up again).
	ErrStale = errors.New("stale node")

	// ErrNotDir reports a directory operation on something else (ENOTDIR).
	ErrNotDir = errors.New("not a directory")

	// ErrInvalid reports an operation that the kind of file does not have,
	// such as Readlink of a directory (EINVAL).
	ErrInvalid = errors.New("invalid operation for this kind of file")
)

// Node names a file, directory or anything else of a view. It is chosen by the
// view, needs no state on either side, and is at most [MaxNode]; zero is as
// good as any other value.
type Node uint64

// MaxNode is the largest node a view may hand out. Above it lie the ids that
// the FUSE protocol keeps for itself.
const MaxNode Node = 1<<63 - 1

// Attr is what stat(2) says about a node.
type Attr struct {
	Ino     uint64 // st_ino; names of one hard link group share it; not 0
	Mode    uint32 // complete st_mode, type bits included
	UID     uint32
	GID     uint32
	Links   uint32
	Size    int64  // bytes; of a symlink, the length of its expanded target
	Blocks  int64  // units of 512 bytes, as st_blocks
	MTime   int64  // UNIX seconds, may be negative; shown as ctime and atime too
	MTimeNS int32  // 0 to 999999999
	Rdev    uint64 // as st_rdev; 0 for all but devices
}

// Content is the open content of a regular file. ReadAt may be called
// concurrently; Close is called once, after the last ReadAt returned.
type Content interface {
	// ReadAt is io.ReaderAt with a context: it fills p from off or says why
	// not, and returns io.EOF with what there was at the end.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)

	// Size is the content's length in bytes. It equals the node's Attr.Size.
	Size() int64

	Close() error
}

// Statfs is what statfs(2) says. Block counts are in units of BlockSize.
type Statfs struct {
	BlockSize  uint32 // bytes
	Blocks     uint64 // all of the tree's
	BlocksFree uint64
	Files      uint64 // inodes
	FilesFree  uint64
	NameMax    uint32 // bytes
}
