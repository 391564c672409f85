package overlay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how often a busy mount is tried, with the pause doubling from a
// millisecond: 127 ms in all.
const patience = 7

// Unmount takes away whatever is mounted at target, however many times. A
// target that is no mount point or not there is no error. A mount that stays
// busy is detached: it leaves the tree at once and ends with its last user.
// lazy reports that this was so.
func Unmount(ctx context.Context, target string) (lazy bool, err error) {
	pause := time.Millisecond
	for tries := 0; ; {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil:
			continue // there may be another below
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return lazy, nil
		case !errors.Is(err, unix.EBUSY):
			return lazy, fmt.Errorf("unmount %s: %w", target, err)
		}
		if tries++; tries <= patience {
			select {
			case <-time.After(pause):
				pause *= 2
				continue
			case <-ctx.Done():
			}
		}
		if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
			return lazy, fmt.Errorf("detach %s: %w", target, err)
		}
		lazy = true
	}
}
