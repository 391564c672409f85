package erofs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrUnavailable reports a kernel that mounts no EROFS.
var ErrUnavailable = errors.New("kernel cannot mount EROFS")

// Mounted is an image that is mounted. It holds nothing open.
type Mounted struct {
	Target string
	Loop   string // the loop device, empty where the kernel reads the file itself
}

// Mount mounts the image, which must be one that [Write] wrote on this
// machine, read-only at the directory target. The kernel reads the file
// itself if it can (since 6.12), otherwise through a loop device that
// vanishes with the mount. The caller unmounts. The process needs
// CAP_SYS_ADMIN.
//
// It returns an error wrapping [ErrUnavailable] if the kernel knows no EROFS,
// else one with what the kernel had to say.
func Mount(image, target string) (*Mounted, error) {
	m, err := mountFile(image, target)
	if errors.Is(err, unix.ENOTBLK) {
		m, err = mountLoop(image, target)
	}
	if err != nil {
		return nil, fmt.Errorf("mount %s at %s: %w", image, target, err)
	}
	return m, nil
}

// Unmount undoes Mount. It returns an error wrapping unix.EBUSY while the
// mount is in use.
func (m *Mounted) Unmount() error {
	if err := unix.Unmount(m.Target, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", m.Target, err)
	}
	return nil
}

func mountFile(image, target string) (*Mounted, error) {
	// Opened first, so that what is missing is said in these words.
	f, err := os.Open(image) // #nosec G304 -- the caller's own file
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	source := image
	if len(source) >= maxSource {
		source = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	}
	if err := attach(source, target); err != nil {
		return nil, err
	}
	return &Mounted{Target: target}, nil
}

// maxSource is how long fsconfig(2) lets a string be, its end included.
const maxSource = 256

// loopTries bounds how often another process may be faster with a free loop
// device.
const loopTries = 32

func mountLoop(image, target string) (*Mounted, error) {
	f, err := os.Open(image) // #nosec G304 -- the caller's own file
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	loop, err := attachLoop(f)
	if err != nil {
		return nil, err
	}
	// The device detaches itself when it is last closed: here, if mounting
	// fails, otherwise with the mount.
	defer loop.Close() //nolint:errcheck
	if err := attach(loop.Name(), target); err != nil {
		return nil, err
	}
	return &Mounted{Target: target, Loop: loop.Name()}, nil
}

// attachLoop makes f a read-only loop device.
func attachLoop(f *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("find a free loop device: %w", err)
	}
	defer control.Close() //nolint:errcheck
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("open loop device: %w", err)
		}
		config := unix.LoopConfig{Fd: uint32(f.Fd())} // #nosec G115 -- a file descriptor
		config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close() //nolint:errcheck
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up %s: %w", loop.Name(), err)
		}
	}
	return nil, fmt.Errorf("find a free loop device: %w", unix.EBUSY)
}

// attach mounts source at the directory target. The target is opened, not
// followed: a mount can end up on nothing but a directory.
func attach(source, target string) error {
	dir, err := unix.Open(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open mountpoint: %w", err)
	}
	defer unix.Close(dir) //nolint:errcheck
	fs, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs) //nolint:errcheck
	if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
		return explain(fs, "ro", err)
	}
	if err := unix.FsconfigSetString(fs, "source", source); err != nil {
		return explain(fs, "source", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return explain(fs, "create", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return explain(fs, "fsmount", err)
	}
	defer unix.Close(mnt) //nolint:errcheck
	if err := unix.MoveMount(mnt, "", dir, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("move mount: %w", err)
	}
	return nil
}

// explain adds the kernel's own words, which it keeps in the file descriptor.
func explain(fs int, step string, err error) error {
	var words []string
	for b := make([]byte, 512); ; {
		n, readErr := unix.Read(fs, b)
		if readErr != nil || n <= 0 {
			break
		}
		words = append(words, strings.TrimSpace(string(b[:n])))
	}
	if len(words) == 0 {
		return fmt.Errorf("%s: %w", step, err)
	}
	return fmt.Errorf("%s: %w (%s)", step, err, strings.Join(words, "; "))
}
