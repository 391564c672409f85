package fusefs

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// undecided is what a method of the bridge returns where an answer needs a
// context that may wait. It is never sent: the kernel knows no error above 511.
const undecided fuse.Status = 1000

// kinds is the table from error kind to errno. Whatever is not in it is EIO.
var kinds = []struct {
	err    error
	status fuse.Status
}{
	{context.Canceled, fuse.EINTR},
	{context.DeadlineExceeded, fuse.EIO},
	{fs.ErrNotExist, fuse.ENOENT},
	{view.ErrNoXAttr, fuse.ENODATA},
	{view.ErrStale, fuse.Status(syscall.ESTALE)},
	{view.ErrNotDir, fuse.ENOTDIR},
	{view.ErrInvalid, fuse.EINVAL},
	{ErrNameTooLong, fuse.Status(syscall.ENAMETOOLONG)},
}

// Errno returns the number a user sees for err. EIO and EINTR decide nothing
// about the tree, all others do.
func Errno(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.status
		}
	}
	return fuse.EIO
}

// status is Errno for the answer to one request. A cancellation counts as an
// interrupt only if it was this request that was interrupted, and with a
// context that was done from the start, failures decide nothing.
func status(ctx context.Context, err error) fuse.Status {
	st := Errno(err)
	switch {
	case st != fuse.EIO && st != fuse.EINTR:
		return st
	case ctx == noWait:
		return undecided
	case st == fuse.EINTR && !errors.Is(ctx.Err(), context.Canceled):
		return fuse.EIO
	}
	return st
}

// noWait is the context of a request that is answered inline. It is compared
// by identity, so there is one.
var noWait = doneContext()

func doneContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
