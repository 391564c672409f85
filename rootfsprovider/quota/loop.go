package quota

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// Loop bounds a directory by mounting an ext4 file system on it that lives in
// the sparse file <Images>/<directory's name>.ext4. The limit is one of the
// file system, so everyone meets ENOSPC, root too. Space that the container
// frees goes back to the host.
type Loop struct {
	Images string // directory, created if need be
	Pool   Pool   // of file systems made ahead; zero for none
}

const (
	block = 4096
	// slack is what the container may use beyond its limit: room for the
	// directories that the overlay itself makes.
	slack = 64 << 10
	// maxLimit is what ext4 can hold in one file of the host's ext4.
	maxLimit = 8 << 40
	// freeAttr, on the file system's root, holds the bytes that were free
	// when nothing had been written: usage is what is missing of them.
	freeAttr = "trusted.rootstock.free"
	// ballast fills what the file system would hold beyond the limit.
	ballast = ".rootstock-ballast"
)

func (l Loop) image(dir string) string {
	return filepath.Join(l.Images, filepath.Base(dir)+".ext4")
}

// Prepare implements [Quota].
func (l Loop) Prepare(ctx context.Context, dir string, limit int64) error {
	if limit < 1 || limit > maxLimit {
		return fmt.Errorf("limit of %d bytes is not between 1 and %d", limit, int64(maxLimit))
	}
	image := l.image(dir)
	if err := os.MkdirAll(l.Images, 0o700); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	taken, err := l.Pool.take(image, limit)
	if err == nil && !taken {
		err = makeImage(ctx, image, limit)
	}
	if err != nil {
		return fmt.Errorf("write layer %s: %w", image, err)
	}
	if err := mountImage(image, dir); err != nil {
		return fmt.Errorf("write layer %s: %w", image, err)
	}
	if err := trim(dir, limit); err != nil {
		return fmt.Errorf("write layer %s: %w", image, err)
	}
	return nil
}

// makeImage makes a file system that has at least limit and slack bytes free.
// It has an inode for every block, so bytes run out first; that and its other
// tables take about an eighth, as holes.
func makeImage(ctx context.Context, image string, limit int64) error {
	f, err := os.OpenFile(image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	size := (limit + limit/8 + 16<<20 + block - 1) / block * block
	err = errors.Join(f.Truncate(size), f.Close())
	if err != nil {
		return err
	}
	// Without a journal: it would guard a file system that is removed after
	// a crash. Without zeroing: the holes are zero.
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		if mkfs = "/sbin/mkfs.ext4"; unix.Access(mkfs, unix.X_OK) != nil {
			return errors.New("a disk limit needs mkfs.ext4 here, because the store has no project quotas: install e2fsprogs, " +
				"or put the store on xfs mounted with prjquota")
		}
	}
	cmd := exec.CommandContext(ctx, mkfs, "-F", "-q", "-b", "4096", "-I", "256", "-i", "4096", "-m", "0",
		"-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", image)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, strings.TrimSpace(string(out[:min(len(out), 512)])))
	}
	return nil
}

// mountImage mounts image at dir over a loop device that ends with the mount.
func mountImage(image, dir string) error {
	loop, path, err := attach(image)
	if err != nil {
		return err
	}
	defer loop.Close() //nolint:errcheck // the mount holds the device; without one it ends here
	if err := unix.Mount(path, dir, "ext4", 0, "noinit_itable,discard,nobarrier"); err != nil {
		return fmt.Errorf("mount %s at %s: %w", path, dir, err)
	}
	return nil
}

// attach binds image to a free loop device, which unbinds itself when its last
// user is gone. The caller closes it.
func attach(image string) (loop *os.File, path string, err error) {
	back, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, "", err
	}
	defer back.Close() //nolint:errcheck // the device has its own reference
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, "", fmt.Errorf("loop devices: %w", err)
	}
	defer ctl.Close() //nolint:errcheck // asks only
	for range 256 {   // others look for a free one at the same time
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, "", fmt.Errorf("free loop device: %w", err)
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		loop, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, "", err
		}
		conf := unix.LoopConfig{Fd: uint32(back.Fd()), Size: block} // #nosec G115 -- a descriptor
		conf.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
		copy(conf.Info.File_name[:len(conf.Info.File_name)-1], image)
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &conf)
		if errors.Is(err, unix.EINVAL) { // the host's disk has other blocks: no direct I/O
			conf.Size, conf.Info.Flags = 0, unix.LO_FLAGS_AUTOCLEAR
			err = unix.IoctlLoopConfigure(int(loop.Fd()), &conf)
		}
		if err == nil {
			return loop, path, nil
		}
		loop.Close() //nolint:errcheck // it is somebody else's
		if !errors.Is(err, unix.EBUSY) {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil, "", errors.New("no loop device stays free long enough to take it")
}

// trim makes the file system at dir have limit and slack bytes free, exactly,
// and notes how many that are.
func trim(dir string, limit int64) error {
	if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil {
		return err
	}
	free, err := freeBytes(dir)
	if err != nil {
		return err
	}
	want := (limit+block-1)/block*block + slack
	if free < want {
		return fmt.Errorf("made for %d bytes, it has only %d free", want, free)
	}
	f, err := os.OpenFile(filepath.Join(dir, ballast), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, max(free-want, block))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	if free, err = freeBytes(dir); err != nil {
		return err
	}
	note := binary.LittleEndian.AppendUint64(nil, uint64(free)) // #nosec G115 -- never negative
	if err := unix.Setxattr(dir, freeAttr, note, 0); err != nil {
		return fmt.Errorf("%s: %w", freeAttr, err)
	}
	return nil
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil // #nosec G115 -- the size of a file of ours
}

// Usage implements [Quota].
func (l Loop) Usage(dir string) (int64, error) {
	var note [8]byte
	if n, err := unix.Getxattr(dir, freeAttr, note[:]); err != nil || n != len(note) {
		return 0, fmt.Errorf("write layer %s is not mounted: %w", dir, errors.Join(err, os.ErrNotExist))
	}
	free, err := freeBytes(dir)
	if err != nil {
		return 0, err
	}
	return max(int64(binary.LittleEndian.Uint64(note[:]))-free, 0), nil // #nosec G115 -- our own note
}

// Remove implements [Quota]. It removes what the directory holds, too, since
// that lies in the image.
func (l Loop) Remove(ctx context.Context, dir string) error {
	image := l.image(dir)
	if _, err := os.Lstat(image); errors.Is(err, os.ErrNotExist) {
		return nil // the mount goes before the image
	}
	if _, err := overlay.Unmount(ctx, dir); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	if err := os.Remove(image); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write layer: %w", err)
	}
	return nil
}
