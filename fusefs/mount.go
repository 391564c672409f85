package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrMountpoint reports a mountpoint that cannot be one.
	ErrMountpoint = errors.New("unusable mountpoint")

	// ErrNotOurs reports that what is mounted at a connection's mountpoint
	// is not that connection's file system.
	ErrNotOurs = errors.New("another file system is mounted there")
)

// device is the FUSE device and its number.
const (
	devicePath  = "/dev/fuse"
	deviceMajor = 10
	deviceMinor = 229
)

// resolveMountpoint returns the absolute path of a mountpoint with all symbolic
// links resolved, which is what mount(2) gets: a path that it would follow
// itself, such as /dev/fd/3, could end at the device being mounted.
func resolveMountpoint(path string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("%w: none given", ErrMountpoint)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%w %s: %w", ErrMountpoint, path, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w %s: it does not exist; create it with mkdir -p", ErrMountpoint, path)
	case errors.Is(err, unix.ENOTCONN):
		return "", fmt.Errorf("%w %s: a mount whose process died is still there; remove it with umount -l", ErrMountpoint, path)
	case err != nil:
		return "", fmt.Errorf("%w %s: %w", ErrMountpoint, path, err)
	}
	for _, p := range []string{abs, real} {
		if p == "/" || p == "/dev" || strings.HasPrefix(p, "/dev/") {
			return "", fmt.Errorf("%w %s: mounting at %s would hide devices or the system; choose a directory elsewhere", ErrMountpoint, path, p)
		}
	}
	info, err := os.Lstat(real)
	switch {
	case errors.Is(err, unix.ENOTCONN):
		return "", fmt.Errorf("%w %s: a mount whose process died is still there; remove it with umount -l", ErrMountpoint, path)
	case err != nil:
		return "", fmt.Errorf("%w %s: %w", ErrMountpoint, path, err)
	case !info.IsDir():
		return "", fmt.Errorf("%w %s: it is not a directory", ErrMountpoint, path)
	}
	return real, nil
}

// openMount opens the device and mounts it. suid and dev stay on: containers
// need both of their root file system.
func openMount(o *Options) (fd int, err error) {
	fd, err = unix.Open(devicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s (is the fuse module loaded?): %w", devicePath, err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,max_read=%d,allow_other,default_permissions",
		fd, unix.S_IFDIR, os.Geteuid(), os.Getegid(), o.MaxRead)
	err = unix.Mount(o.FSName, o.Mountpoint, "fuse.rootstock", unix.MS_RDONLY, options)
	if err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EPERM) {
			return -1, fmt.Errorf("mount at %s (mounting needs root): %w", o.Mountpoint, err)
		}
		return -1, fmt.Errorf("mount at %s: %w", o.Mountpoint, err)
	}
	return fd, nil
}

// mountDevice returns the st_dev of what is mounted at path, without asking the
// file system.
func mountDevice(path string) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	if err != nil {
		return 0, fmt.Errorf("stat mountpoint %s: %w", path, err)
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), nil
}

// raiseReadAhead widens the kernel's read-ahead, which a connection begins with
// at 128 KiB, to the largest READ. Where that is not permitted the mount works
// all the same.
func raiseReadAhead(dev uint64, bytes int) error {
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(dev), unix.Minor(dev))
	err := os.WriteFile(name, strconv.AppendInt(nil, int64(bytes>>10), 10), 0)
	if err != nil {
		return fmt.Errorf("raise read-ahead: %w", err)
	}
	return nil
}

// End unmounts or, with [Options].Keep, leaves the mount to whoever has the
// device. It is what Serve does in the end, for a connection that may not have
// been served.
func (c *Conn) End(ctx context.Context) error {
	if !c.opts.Keep {
		return c.Unmount(ctx)
	}
	if c.ended() || c.leaving.Swap(true) {
		return nil
	}
	return c.closeDevice()
}

// Unmount takes the mount away. If it is in use until ctx is done or two seconds
// have passed, it is detached: no one new gets in, those who are in stay until
// they leave, and only then does Serve return. Unmounting what is unmounted
// already is no error.
func (c *Conn) Unmount(ctx context.Context) error {
	const patience, pause = 2 * time.Second, 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if c.ended() || c.detached.Load() {
			return nil
		}
		err := c.checkOurs()
		if err == nil {
			err = unix.Unmount(c.mountpoint, unix.UMOUNT_NOFOLLOW)
		}
		switch {
		case err == nil:
			c.detached.Store(true)
			c.log.Info("unmounted", slog.String("mountpoint", c.mountpoint))
			return nil
		case errors.Is(err, ErrNotOurs):
			// Unmounted by someone else, perhaps, and Serve about to end.
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("unmount %s: %w", c.mountpoint, err)
		}
		select {
		case <-ctx.Done():
			if errors.Is(err, ErrNotOurs) {
				return fmt.Errorf("unmount %s: %w", c.mountpoint, err)
			}
			return c.detach()
		case <-c.done:
		case <-time.After(pause):
		}
	}
}

func (c *Conn) detach() error {
	if err := unix.Unmount(c.mountpoint, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach %s: %w", c.mountpoint, err)
	}
	c.detached.Store(true)
	c.log.Warn("mount was busy and is detached; it goes when its last user does",
		slog.String("mountpoint", c.mountpoint))
	return nil
}

// checkOurs makes sure that what unmounting would take away is this connection.
func (c *Conn) checkOurs() error {
	dev, err := mountDevice(c.mountpoint)
	if err != nil {
		return err
	}
	if dev != c.dev {
		return ErrNotOurs
	}
	return nil
}
