package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// ErrNoResend reports a kernel without FUSE_NOTIFY_RESEND (before 6.9).
var ErrNoResend = errors.New("kernel cannot send requests again")

// InvalEntry makes the kernel forget what name in the directory parent is, or
// that there is none. It waits for lookups under way in that directory, so it
// must not be called from a method of the FS. A name not known to the kernel is
// no error.
func (c *Conn) InvalEntry(parent uint64, name string) error {
	const head = outHeaderSize + int(unsafe.Sizeof(fuse.NotifyInvalEntryOut{}))
	p := make([]byte, head+len(name)+1) // the name ends with a NUL
	binary.NativeEndian.PutUint64(p[outHeaderSize:], parent)
	binary.NativeEndian.PutUint32(p[outHeaderSize+8:], uint32(len(name)))
	copy(p[head:], name)
	if err := c.notify(p, fuse.NOTIFY_INVAL_ENTRY); err != nil {
		return fmt.Errorf("invalidate entry %q of node %d: %w", name, parent, err)
	}
	return nil
}

// InvalInode makes the kernel forget the attributes of node and its content from
// off to off+length, in bytes; length 0 is up to the end, a negative off spares
// the content. A directory's content is its listing. A node not known to the
// kernel is no error.
func (c *Conn) InvalInode(node uint64, off, length int64) error {
	p := make([]byte, outHeaderSize+int(unsafe.Sizeof(fuse.NotifyInvalInodeOut{})))
	binary.NativeEndian.PutUint64(p[outHeaderSize:], node)
	binary.NativeEndian.PutUint64(p[outHeaderSize+8:], uint64(off))
	binary.NativeEndian.PutUint64(p[outHeaderSize+16:], uint64(length))
	if err := c.notify(p, fuse.NOTIFY_INVAL_INODE); err != nil {
		return fmt.Errorf("invalidate node %d: %w", node, err)
	}
	return nil
}

// Resend makes the kernel send all requests again that were read from the
// device and not answered: what an adopted connection begins with.
func (c *Conn) Resend() error {
	err := c.notify(make([]byte, outHeaderSize), fuse.NOTIFY_RESEND)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %w", ErrNoResend, err)
	}
	return err
}

func (c *Conn) notify(p []byte, code int32) error {
	// A notification's code is positive on the wire; go-fuse's constants
	// are negative, as for its statuses.
	header(p, len(p), -code, 0)
	if err := c.write(p); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
