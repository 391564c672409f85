package fusefs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/view"
)

func TestErrno(t *testing.T) {
	for _, c := range []struct {
		err  error
		want unix.Errno
	}{
		{nil, 0},
		{fs.ErrNotExist, unix.ENOENT},
		{&os.PathError{Op: "open", Err: unix.ENOENT}, unix.ENOENT},
		{context.Canceled, unix.EINTR},
		{context.DeadlineExceeded, unix.EIO},
		{view.ErrNoXAttr, unix.ENODATA},
		{view.ErrStale, unix.ESTALE},
		{view.ErrNotDir, unix.ENOTDIR},
		{view.ErrInvalid, unix.EINVAL},
		{fusefs.ErrNameTooLong, unix.ENAMETOOLONG},
		{errors.New("anything"), unix.EIO},
		{unix.ENOSPC, unix.EIO},
		{errors.ErrUnsupported, unix.EIO},
		{unix.ENOSYS, unix.EIO},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("wrapped: %w", err)
		}
		if got := fusefs.Errno(err); got != fuse.Status(c.want) {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}
