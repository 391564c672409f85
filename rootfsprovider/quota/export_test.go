package quota

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FakeKernel keeps project ids and limits as a file system with project quotas
// would, in the structures of the real calls.
type FakeKernel struct {
	Off      bool              // no quotas on this file system
	Fail     map[string]bool   // calls to fail: "limit", "project"
	Projects map[uint64]uint32 // by inode
	Inherit  map[uint64]bool
	Limits   map[uint32]int64 // bytes
	Used     map[uint32]int64 // bytes
}

// NewFakeKernel returns one with quotas on.
func NewFakeKernel() *FakeKernel {
	return &FakeKernel{
		Fail: map[string]bool{}, Projects: map[uint64]uint32{}, Inherit: map[uint64]bool{},
		Limits: map[uint32]int64{}, Used: map[uint32]int64{},
	}
}

// FakeProject is a Project on k.
func FakeProject(ids string, k *FakeKernel) Project { return Project{IDs: ids, sys: k} }

func (k *FakeKernel) quotactl(_ *os.File, call int, id uint32, arg unsafe.Pointer) error {
	if k.Off {
		return unix.ENOSYS
	}
	if call == xGetState {
		(*quotaState)(arg).Flags = projectEnforced
		return nil
	}
	q := (*diskQuota)(arg)
	if q.Version != 1 || q.Flags != projectFlag || q.ID != id {
		return fmt.Errorf("malformed request %+v", *q)
	}
	if call == xGetQuota {
		q.Blocks = uint64(k.Used[id]) / 512
		return nil
	}
	if k.Fail["limit"] && q.Hard != 0 {
		return unix.EIO
	}
	k.Limits[id] = int64(q.Hard) * 512
	return nil
}

func (k *FakeKernel) ioctl(f *os.File, call uintptr, arg unsafe.Pointer) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	a := (*fsxattr)(arg)
	if call == fsGetXattr {
		a.Project = k.Projects[st.Ino]
		return nil
	}
	if k.Fail["project"] && a.Project != 0 {
		return unix.EIO
	}
	k.Projects[st.Ino], k.Inherit[st.Ino] = a.Project, a.Flags&inheritFlag != 0
	return nil
}

// Layout are the sizes and offsets the kernel's headers give.
var Layout = map[string][2]uintptr{
	"fs_disk_quota":                 {unsafe.Sizeof(diskQuota{}), 112},
	"fs_disk_quota.d_fieldmask":     {unsafe.Offsetof(diskQuota{}.Fields), 2},
	"fs_disk_quota.d_id":            {unsafe.Offsetof(diskQuota{}.ID), 4},
	"fs_disk_quota.d_blk_hardlimit": {unsafe.Offsetof(diskQuota{}.Hard), 8},
	"fs_disk_quota.d_blk_softlimit": {unsafe.Offsetof(diskQuota{}.Soft), 16},
	"fs_disk_quota.d_bcount":        {unsafe.Offsetof(diskQuota{}.Blocks), 40},
	"fs_disk_quota.d_icount":        {unsafe.Offsetof(diskQuota{}.Inodes), 48},
	"fs_quota_stat":                 {unsafe.Sizeof(quotaState{}), 80},
	"fs_quota_stat.qs_flags":        {unsafe.Offsetof(quotaState{}.Flags), 2},
	"fsxattr":                       {unsafe.Sizeof(fsxattr{}), 28},
	"fsxattr.fsx_projid":            {unsafe.Offsetof(fsxattr{}.Project), 12},
}

// Take reserves an id and does no more.
func Take(p Project, name string) (uint32, error) { return p.take(name) }

// FakeBackends are backends whose project quotas are k's.
func FakeBackends(store string, k *FakeKernel) Backends {
	b := For(store, 0)
	b.project.sys = k
	return b
}
