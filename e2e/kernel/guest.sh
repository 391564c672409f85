#!/bin/bash
# Runs in the guest, as its only process: what an init does for tests that
# mount and start containers, then the tests of suite.txt. They are told by
# kernel.expect on the kernel's command line what is to be expected of the kernel.
# Results leave by the second serial port, as `go test -json` has them.
export PATH=/suite/disk/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TMPDIR=/suite/disk/tmp LC_ALL=C.UTF-8
mount -t proc proc /proc 2>/dev/null
mount -t sysfs sysfs /sys 2>/dev/null
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/shm /dev/pts /sys/fs/cgroup
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
# What udev would load when it is asked for.
for module in fuse loop overlay erofs quota_v2; do modprobe $module; done
ip link set lo up
hostname guest
ulimit -n 20000

stty -F /dev/ttyS1 raw -echo
exec >/dev/ttyS1
ROOTSTOCK_TEST_KERNEL=$(sed -n 's/.*kernel\.expect=\([^ ]*\).*/\1/p' /proc/cmdline)
export ROOTSTOCK_TEST_KERNEL

while read -r pkg run flags; do
	cd "/suite/disk/src/$pkg" || continue
	# shellcheck disable=SC2086 # a list of words
	test2json -t -p "$pkg" unshare --mount --propagation private -- "/suite/disk/tests/${pkg//\//.}" \
		-test.v=test2json -test.count=1 -test.timeout=30m -test.run="$run" $flags </dev/null 2>&1
	cd /
done </suite/disk/suite.txt
echo "every package of the suite ran"
sync
echo o >/proc/sysrq-trigger
sleep 60
