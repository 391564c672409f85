package quota

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pool holds file systems that nobody uses yet, as <Dir>/<limit>/<n>.ext4: a
// container takes one by renaming it. What limits are wanted is learned from
// those that were asked for.
type Pool struct {
	Dir  string
	Size int // file systems per limit, 0 for no pool
}

// maxLimits is how many different limits are kept ready; the ones that were
// asked for last.
const maxLimits = 8

func (p Pool) of(limit int64) string { return filepath.Join(p.Dir, strconv.FormatInt(limit, 10)) }

// take moves a ready file system to image. taken is false where there is none.
func (p Pool) take(image string, limit int64) (taken bool, err error) {
	if p.Size == 0 {
		return false, nil
	}
	dir := p.of(limit)
	for n := range p.Size {
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, strconv.Itoa(n)+".ext4"), unix.AT_FDCWD, image, unix.RENAME_NOREPLACE)
		switch {
		case err == nil:
			taken = true
		case errors.Is(err, fs.ErrNotExist):
			continue
		default:
			return false, fmt.Errorf("take a file system: %w", err)
		}
		break
	}
	if !taken { // note that this limit is wanted
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return false, fmt.Errorf("pool: %w", err)
		}
	}
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return taken, fmt.Errorf("pool: %w", err)
	}
	return taken, nil
}

// limits returns the limits that were asked for, the last one first.
func (p Pool) limits() ([]int64, error) {
	entries, err := os.ReadDir(p.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pool: %w", err)
	}
	type used struct {
		limit int64
		when  time.Time
	}
	var all []used
	for _, e := range entries {
		limit, err := strconv.ParseInt(e.Name(), 10, 64)
		info, ierr := e.Info()
		if err != nil || ierr != nil || limit < 1 || limit > maxLimit {
			continue
		}
		all = append(all, used{limit, info.ModTime()})
	}
	slices.SortFunc(all, func(a, b used) int { return b.when.Compare(a.when) })
	limits := make([]int64, len(all))
	for i, u := range all {
		limits[i] = u.limit
	}
	return limits, nil
}

// Wanting reports whether Fill has something to do.
func (p Pool) Wanting() bool {
	if p.Size == 0 {
		return false
	}
	limits, err := p.limits()
	if err != nil {
		return false
	}
	for _, limit := range limits[:min(len(limits), maxLimits)] {
		for n := range p.Size {
			if _, err := os.Lstat(filepath.Join(p.of(limit), strconv.Itoa(n)+".ext4")); err != nil {
				return true
			}
		}
	}
	return false
}

// Fill makes what is missing. Where another process does that already, it does
// nothing.
func (p Pool) Fill(ctx context.Context) error {
	if p.Size == 0 {
		return nil
	}
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	unlock, err := p.lock()
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	if err := p.trim(); err != nil {
		return err
	}
	limits, err := p.limits()
	if err != nil {
		return err
	}
	for _, limit := range limits {
		asked, err := os.Stat(p.of(limit))
		if err != nil {
			return fmt.Errorf("pool: %w", err)
		}
		for n := range p.Size {
			path := filepath.Join(p.of(limit), strconv.Itoa(n)+".ext4")
			if _, err := os.Lstat(path); err == nil {
				continue
			}
			// Whole or not at all: takers look for the name only.
			tmp := path + ".new"
			err := makeImage(ctx, tmp, limit)
			if err == nil {
				err = os.Rename(tmp, path)
			}
			if err != nil {
				os.Remove(tmp) //nolint:errcheck // the first error counts
				return fmt.Errorf("pool: %s: %w", path, err)
			}
		}
		// The directory's time is when it was asked for.
		if err := os.Chtimes(p.of(limit), asked.ModTime(), asked.ModTime()); err != nil {
			return fmt.Errorf("pool: %w", err)
		}
	}
	return nil
}

// Drain removes what a Fill that died has left, and limits not asked for of
// late; without a pool, all of it.
func (p Pool) Drain(context.Context) error {
	if p.Size == 0 {
		if err := os.RemoveAll(p.Dir); err != nil {
			return fmt.Errorf("pool: %w", err)
		}
		return nil
	}
	if _, err := os.Stat(p.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := p.lock()
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	return p.trim()
}

// trim needs the lock.
func (p Pool) trim() error {
	limits, err := p.limits()
	if err != nil {
		return err
	}
	for i, limit := range limits {
		entries, err := os.ReadDir(p.of(limit))
		if err != nil {
			return fmt.Errorf("pool: %w", err)
		}
		for _, e := range entries {
			n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".ext4"))
			if i < maxLimits && err == nil && n >= 0 && n < p.Size {
				continue
			}
			if err := os.Remove(filepath.Join(p.of(limit), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("pool: %w", err)
			}
		}
		if i >= maxLimits {
			if err := os.Remove(p.of(limit)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("pool: %w", err)
			}
		}
	}
	return nil
}

// lock returns nil where somebody else has it.
func (p Pool) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(p.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close() //nolint:errcheck // nothing is held
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("pool: %w", err)
	}
	return func() { f.Close() }, nil //nolint:errcheck // closing frees it, whatever it says
}
