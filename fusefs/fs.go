// Package fusefs is a FUSE connection that this module owns: the device, the
// mount, the read loop and the replies. What flows through it are the kernel's
// questions about a read-only tree, in, and the answers of an [FS], out.
//
// go-fuse's ProtocolServer decodes and encodes; everything around it is ours,
// for two reasons. Its own loop hands every request to another thread, which
// halves the lookups per second. And a request that may wait for a network must
// not hold up one that need not, must end at a deadline and when its caller is
// interrupted, and must never take the mount with it.
//
// So a few reader threads answer inline whatever an FS can say without waiting:
// they ask with a context that is already done. What comes back undecided is
// asked again on a goroutine, with a deadline, and may wait.
//
// Every reply is stateless: nothing is opened (OPEN and OPENDIR are answered
// ENOSYS, so the kernel stops asking), FORGET is ignored. A connection can
// therefore be adopted from a process that died, see [Adopt].
package fusefs

import (
	"context"
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// RootID is the node id of the mount's root directory.
const RootID = fuse.FUSE_ROOT_ID

// ErrNameTooLong is what [Directories].Lookup returns for a name that is longer
// than the file system's names can be (ENAMETOOLONG).
var ErrNameTooLong = errors.New("name too long")

// FS answers the requests of a connection. It may also implement [XAttrs] and
// [Space].
//
// Methods are called concurrently and must not keep what they are given. A
// context that is already done asks for an answer from memory, as in package
// view: an error that decides nothing (see [Errno]) makes the connection ask
// again with a context that may wait. Node ids are below 1<<63.
type FS interface {
	Directories
	Inodes
	Files
}

// Directories finds names.
type Directories interface {
	// Lookup fills out with what name is in dir. A name that is absent for
	// as long as out's entry timeout says is a nil error with out.NodeId 0.
	Lookup(ctx context.Context, dir uint64, name string, out *fuse.EntryOut) error

	// ReadDir adds the entries from offset on (0, or the Off of the entry
	// last seen) until out is full. With plus, entries are lookups too.
	ReadDir(ctx context.Context, dir, offset uint64, plus bool, out *fuse.DirEntryList) error
}

// Inodes describes nodes.
type Inodes interface {
	Attr(ctx context.Context, node uint64, out *fuse.AttrOut) error
	Readlink(ctx context.Context, node uint64) ([]byte, error)
}

// Files reads content.
type Files interface {
	// ReadAt fills p from off. Fewer bytes mean the end of the file, at
	// which there is no error.
	ReadAt(ctx context.Context, node uint64, p []byte, off int64) (int, error)
}

// XAttrs is an [FS] that has extended attributes. One that does not implement
// it never gets a second question: ENOSYS is remembered by the kernel for the
// whole connection.
type XAttrs interface {
	XAttr(ctx context.Context, node uint64, name string) ([]byte, error)
	ListXAttr(ctx context.Context, node uint64) ([]string, error)
}

// Space is an [FS] that answers statfs(2).
type Space interface {
	Statfs(ctx context.Context) (view.Statfs, error)
}
