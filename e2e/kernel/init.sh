#!/bin/sh
# The guest's first process: all but this is on the suite's disk, which is made
# anew for each run.
mount -t ext4 -o prjquota /dev/vdb /suite/disk && exec /suite/disk/guest.sh
echo "the suite's disk cannot be mounted" >/dev/console
echo o >/proc/sysrq-trigger
sleep 60
