package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What a power cut can do, and how it is found.
//
// An object is renamed into place before its bytes are on disk, so after a
// power cut it may be there and be empty, cut short or full of zeros; a
// publisher that took it for present would then sign a catalog that refers to
// it. No manifest does so yet: Sync comes before the swap. So only objects put
// since the last Sync are suspect, and only where the machine stopped.
//
// The rule. Before the first Put after a Sync, a marker is made durable that
// holds the kernel's boot id. Its modification time is the generation, and
// every object put until the next Sync is given just that time before it is
// renamed. Sync writes all out and removes the marker. Whoever takes the lock
// and finds a marker of another boot hashes each object that is as young as
// the marker or younger, and removes what does not match its name. A marker of
// this boot tells of a process that died: its objects are whole, since the
// kernel still has what it wrote, and merely join the next Sync.
//
// No clock is compared with another: file systems that journal order the
// change of an object's time before its rename, and the generation is read
// back from the marker, rounded as the file system rounds all of them. A clock
// set back makes more objects suspect, never fewer.
//
// When Sync itself fails, the kernel may have dropped bytes of any object put
// before and reports that once only. The store then refuses to go on, and the
// marker is made to look like that of another boot.

// dirtyName lies where the objects do, so that their times are rounded alike.
const dirtyName = "data/.rootstock.dirty"

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// failedSync takes the boot id's place in the marker.
const failedSync = "failed sync"

func bootID() (string, error) {
	b, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", fmt.Errorf("tell this boot from another: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// begin makes sure that the marker is on disk. The caller holds mu for reading.
func (s *Store) begin(ctx context.Context) error {
	if s.failed != nil {
		return s.failed
	}
	if s.marked.Load() {
		return nil
	}
	return s.adopt(ctx, true)
}

// adopt deals with a marker that is there: one of this boot becomes ours, one
// of another boot leads to recovery, which needs the lock. Where there is none
// then, it makes one if create says so.
func (s *Store) adopt(ctx context.Context, create bool) error {
	s.markMu.Lock()
	defer s.markMu.Unlock()
	if s.marked.Load() {
		return nil
	}
	mine, err := bootID()
	if err != nil {
		return err
	}
	boot, generation, err := s.readMarker()
	if err != nil {
		return err
	}
	if boot != "" && boot != mine {
		if !s.holdsLock() {
			f, err := s.tryLock(lockName)
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // nothing was written through it
		}
		if err := s.recover(ctx, generation); err != nil {
			return fmt.Errorf("look for objects damaged by an unclean stop: %w", err)
		}
		boot = ""
	}
	if boot == "" && create {
		if generation, err = s.writeMarker(mine, time.Time{}); err != nil {
			return fmt.Errorf("mark unsynced objects: %w", err)
		}
		boot = mine
	}
	if boot != "" {
		s.generation = generation
		s.marked.Store(true)
	}
	return nil
}

// readMarker returns the boot id in the marker and its generation; the boot id
// is empty if there is no marker. An empty marker is damaged, and so taken for
// another boot's.
func (s *Store) readMarker() (boot string, generation time.Time, err error) {
	f, err := os.Open(s.path(dirtyName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", time.Time{}, nil
	} else if err != nil {
		return "", time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", time.Time{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 128))
	if err != nil {
		return "", time.Time{}, err
	}
	if boot = strings.TrimSpace(string(text)); boot == "" {
		boot = failedSync
	}
	return boot, info.ModTime(), nil
}

// writeMarker makes a marker durable under its name, and returns its time: the
// one given, unless that is zero.
func (s *Store) writeMarker(text string, mtime time.Time) (time.Time, error) {
	temp, err := s.writeTemp(txnDir, tempPrefix, []byte(text+"\n"), 0o600, mtime, true)
	if err != nil {
		return time.Time{}, err
	}
	path := s.path(dirtyName)
	if err := rename(temp, path); err != nil {
		return time.Time{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), syncDir(filepath.Dir(path))
}

// Sync makes everything durable that was put before it began. Objects put
// meanwhile stay marked. After an error the store is of no more use: open it
// again, and the objects in question are verified when the lock is taken.
func (s *Store) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sync %s: %w", s.dir, err)
	}
	s.mu.Lock() // waits for Puts under way, so that all that counted are in place
	puts, failed := s.puts.Load(), s.failed
	s.mu.Unlock()
	if failed != nil {
		return failed
	}
	err := s.syncfs(int(s.data.Fd()))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed = fmt.Errorf("sync %s: %w: what was put may be damaged; look after the disk, then publish again", s.dir, err)
		if !s.marked.Load() {
			return s.failed
		}
		_, merr := s.writeMarker(failedSync, s.generation)
		return errors.Join(s.failed, merr)
	}
	if s.puts.Load() != puts || !s.marked.Load() {
		return nil
	}
	if err := os.Remove(s.path(dirtyName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sync %s: %w", s.dir, err)
	}
	s.marked.Store(false)
	return nil
}
