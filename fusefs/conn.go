package fusefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Conn is one FUSE connection and its mount.
type Conn struct {
	mountpoint string
	dev        uint64 // st_dev of the mount
	opts       Options
	log        *slog.Logger
	server     *fuse.ProtocolServer
	tasks      *tasks
	buffers    buffers
	init       Init
	counts     counters
	idle       atomic.Int32  // readers waiting for a request
	disk       chan struct{} // holds one for each of asides
	asides     sync.WaitGroup
	detached   atomic.Bool
	done       chan struct{} // closed when Serve returns
	flight     *inFlight
	adopted    bool
	leaving    atomic.Bool
	left       chan struct{} // closed when leaving and no reader has a request

	// life guards fd: replies and notifications hold it for reading, closing
	// the device for writing. It is taken last, below all other locks.
	life   sync.RWMutex
	fd     int
	closed bool
}

// Mount mounts f at o.Mountpoint, which takes root, and agrees with the kernel
// on the protocol. Requests wait until [Conn.Serve] is called, which also closes
// the device in the end.
func Mount(ctx context.Context, f FS, o Options) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Mountpoint, err)
	}
	fd, path, err := OpenMount(o)
	if err != nil {
		return nil, err
	}
	o.Mountpoint = path
	c, err := Adopt(fd, Init{}, f, o)
	if err != nil {
		return nil, errors.Join(err, unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH), unix.Close(fd))
	}
	return c, nil
}

// OpenMount opens the device and mounts it at o.Mountpoint, whose path it
// returns with symbolic links resolved. No one answers yet: that takes [Adopt],
// in this or another process. The caller closes the device, which is close on
// exec, unless it adopts it.
func OpenMount(o Options) (fd int, mountpoint string, err error) {
	if err := o.setDefaults(); err != nil {
		return -1, "", err
	}
	if o.Mountpoint, err = resolveMountpoint(o.Mountpoint); err != nil {
		return -1, "", err
	}
	fd, err = openMount(&o)
	return fd, o.Mountpoint, err
}

// Adopt makes a connection of fd, the device of a mount at o.Mountpoint (the
// resolved path), which [Conn.Serve] closes in the end unless Adopt fails.
//
// If init is zero, the mount is new and the protocol to be agreed on. Otherwise
// the connection continues one that was begun by another process, with [Begin]
// or as one that has died, and init is what that was told. Then the file system
// must know the node ids handed out before, and the options be the same. What
// was left unanswered is answered by [Conn.Serve].
func Adopt(fd int, init Init, f FS, o Options) (*Conn, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("adopt file descriptor %d: %w", fd, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(deviceMajor, deviceMinor) {
		return nil, fmt.Errorf("adopt file descriptor %d: it is not %s", fd, devicePath)
	}
	flight, err := mapInFlight(o.InFlight)
	if err != nil {
		return nil, fmt.Errorf("connection of %s: %w", o.Mountpoint, err)
	}
	c := newConn(fd, f, o, flight)
	if c.adopted = init != (Init{}); c.adopted {
		err = c.continueFrom(init)
	} else {
		err = c.begin()
	}
	if c.dev = o.Device; err == nil && c.dev == 0 {
		c.dev, err = mountDevice(c.mountpoint)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connection of %s: %w", o.Mountpoint, err), flight.unmap())
	}
	if err := raiseReadAhead(c.dev, o.MaxRead); err != nil {
		c.log.Warn("large files will be read in small steps", slog.Any("err", err))
	}
	c.log.Info("mounted", slog.String("mountpoint", o.Mountpoint),
		slog.Uint64("protocol", uint64(c.init.Minor)), slog.Bool("adopted", c.adopted))
	return c, nil
}

// Begin agrees with the kernel on the protocol of a new mount, whose device fd
// is. The process that adopts it, with the same options and what Begin returns,
// may be another one.
func Begin(fd int, o Options) (Init, error) {
	if err := o.setDefaults(); err != nil {
		return Init{}, err
	}
	c := newConn(fd, nil, o, nil)
	if err := c.begin(); err != nil {
		return Init{}, fmt.Errorf("connection of %s: %w", o.Mountpoint, err)
	}
	return c.init, nil
}

// takeOver answers what another process read and left unanswered: the kernel
// sends it again if it can, otherwise it is in the memory of requests in flight.
func (c *Conn) takeOver() error {
	if !c.adopted {
		return nil
	}
	if !c.opts.NoResend {
		err := c.Resend()
		if err == nil || errors.Is(err, unix.ENODEV) {
			c.flight.forget() // only now: this process may die, too
			return nil
		}
		if !errors.Is(err, ErrNoResend) {
			return fmt.Errorf("connection of %s: %w", c.mountpoint, err)
		}
	}
	list := c.flight.inherit()
	for _, h := range list {
		switch opcode(h.in) {
		case opForget, opBatchForget, opInterrupt:
			answered(h.in)
			c.flight.release(h)
			continue
		}
		if nodeID(h.in) == RootID {
			setNodeID(h.in, rootAlias)
		}
		c.counts.inherited.Add(1)
		c.tasks.addHeld(h)
	}
	return nil
}

// leave ends the serving without an end to the mount.
func (c *Conn) leave() {
	c.leaving.Store(true)
	c.tasks.close()
	for int(c.idle.Load()) < c.opts.Readers {
		time.Sleep(100 * time.Microsecond) // for answers from memory or a local disk
	}
	close(c.left)
}

func newConn(fd int, f FS, o Options, flight *inFlight) *Conn {
	c := &Conn{
		flight:     flight,
		left:       make(chan struct{}),
		mountpoint: o.Mountpoint,
		opts:       o,
		log:        o.Log,
		fd:         fd,
		done:       make(chan struct{}),
		disk:       make(chan struct{}, o.Waiting),
	}
	c.tasks = newTasks(o.Waiting, o.Deadline, o.Grace, flight, &c.counts)
	c.tasks.handle = c.handleTask
	c.tasks.fail = c.replyError
	c.tasks.failed = c.failed
	c.server = fuse.NewProtocolServer(newBridge(f, o.NoXAttrs, c.tasks), c.protocolOptions())
	return c
}

// protocolOptions asks for what an unchanging tree can have: no automatic
// invalidation of data, symbolic links and listings in the page cache, and
// lookups that come with a listing. Left to itself (READDIRPLUS_AUTO) the kernel
// wants these only with the first piece of a listing, and then looks up one name
// after the other.
func (c *Conn) protocolOptions() *fuse.MountOptions {
	return &fuse.MountOptions{
		Name:                     "rootstock",
		MaxWrite:                 c.opts.MaxRead, // go-fuse sizes READs by it
		MaxBackground:            c.opts.Waiting,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		IDMappedMount:            true, // for containers with a user namespace; permissions are the kernel's to check, see openMount
		ExtraCapabilities:        fuse.CAP_NO_OPENDIR_SUPPORT,
		DisabledCapabilities:     fuse.CAP_PASSTHROUGH,
		Logger:                   slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
		PanicHandler:             c.panicked,
	}
}

// panicked turns the panic of a handler into EIO for its caller alone.
func (c *Conn) panicked(value any) fuse.Status {
	c.counts.panics.Add(1)
	c.log.Error("request handler panicked", slog.Any("panic", value), slog.String("stack", string(debug.Stack())))
	return fuse.EIO
}

// begin answers the kernel's INIT.
func (c *Conn) begin() error {
	in := make([]byte, readBuffer)
	n, err := unix.Read(c.fd, in)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(c.fd, in)
	}
	if err != nil {
		return fmt.Errorf("read the first request: %w", err)
	}
	reply, err := c.agree(in[:n])
	if err != nil {
		return err
	}
	if err := c.write(reply); err != nil {
		return fmt.Errorf("answer the first request: %w", err)
	}
	return nil
}

// Mountpoint returns the resolved path of the mount.
func (c *Conn) Mountpoint() string { return c.mountpoint }

// Wait blocks until Serve has returned.
func (c *Conn) Wait() { <-c.done }

func (c *Conn) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// write sends one reply or notification.
func (c *Conn) write(p []byte) error {
	c.life.RLock()
	defer c.life.RUnlock()
	if c.closed {
		return unix.ENODEV
	}
	_, err := unix.Write(c.fd, p)
	return err
}

func (c *Conn) closeDevice() error {
	c.life.Lock()
	defer c.life.Unlock()
	c.closed = true
	if err := unix.Close(c.fd); err != nil {
		return fmt.Errorf("close %s: %w", devicePath, err)
	}
	return nil
}
