package quota

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's interface, from linux/dqblk_xfs.h and linux/fs.h. The X calls
// serve ext4 as well as xfs.
const (
	xGetQuota = 'X'<<8 + 3
	xSetLimit = 'X'<<8 + 4
	xGetState = 'X'<<8 + 5

	projectType = 2 // PRJQUOTA

	quotaVersion    = 1      // FS_DQUOT_VERSION
	projectFlag     = 1 << 1 // FS_PROJ_QUOTA
	fieldSoft       = 1 << 2 // FS_DQ_BSOFT
	fieldHard       = 1 << 3 // FS_DQ_BHARD
	projectEnforced = 1 << 5 // FS_QUOTA_PDQ_ENFD

	basicBlock = 512 // bytes per block in a diskQuota

	fsGetXattr  = 0x801c581f // FS_IOC_FSGETXATTR
	fsSetXattr  = 0x401c5820 // FS_IOC_FSSETXATTR
	inheritFlag = 0x200      // FS_XFLAG_PROJINHERIT
)

// diskQuota is struct fs_disk_quota.
type diskQuota struct {
	Version    int8
	Flags      int8
	Fields     uint16
	ID         uint32
	Hard, Soft uint64
	_, _       uint64 // inode limits
	Blocks     uint64
	Inodes     uint64
	_          [2]int32
	_          [2]uint16
	_          [4]int8
	_, _, _    uint64 // realtime blocks
	_          int32
	_          uint16
	_          int16
	_          [8]byte
}

// quotaState is struct fs_quota_stat.
type quotaState struct {
	Version int8
	Flags   uint16
	_       int8
	_, _    struct {
		Inode, Blocks uint64
		Extents       uint32
	}
	_ uint32
	_ [3]int32
	_ [2]uint16
}

// fsxattr is struct fsxattr.
type fsxattr struct {
	Flags, _, _, Project, _ uint32
	_                       [8]byte
}

// kernel is what Project asks of the kernel about an open directory.
type kernel interface {
	quotactl(f *os.File, call int, id uint32, arg unsafe.Pointer) error
	ioctl(f *os.File, call uintptr, arg unsafe.Pointer) error
}

type linux struct{}

// quotactl is quotactl_fd(2), which needs no block device's name.
func (linux) quotactl(f *os.File, call int, id uint32, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), uintptr(call<<8|projectType), uintptr(id), uintptr(arg), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("quotactl", errno)
	}
	return nil
}

func (linux) ioctl(f *os.File, call uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), call, uintptr(arg)); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
