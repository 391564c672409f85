package local_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
)

const dirty = "data/.rootstock.dirty"

// powerCut makes the marker that of another boot, as it is found after one.
func powerCut(t *testing.T, dir string) {
	t.Helper()
	marker := filepath.Join(dir, dirty)
	info, err := os.Stat(marker)
	if err != nil {
		t.Fatalf("objects are unsynced and not marked: %v", err)
	}
	if err := os.WriteFile(marker, []byte("00000000-0000-0000-0000-000000000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(marker, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// damage empties an object as a power cut does: its times stay.
func damage(t *testing.T, dir, name string, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

func lock(t *testing.T, s *local.Store) {
	t.Helper()
	unlock, err := s.Lock(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unlock(); err != nil {
			t.Error(err)
		}
	})
}

func marked(t *testing.T, dir string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(dir, dirty))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestRecoveryAfterPowerCut(t *testing.T) {
	dir := t.TempDir()
	s := create(t, dir)
	synced := put(t, s, "synced")
	sync(t, s)
	time.Sleep(20 * time.Millisecond) // a tick of the file system's clock
	whole, empty, cut, zeros := put(t, s, "whole"), put(t, s, "empty"), put(t, s, "cut short"), put(t, s, "zeros")
	powerCut(t, dir)
	// What was synced is not read again: recovery costs what was put since,
	// not what the repository holds. That it is damaged here only shows it.
	damage(t, dir, synced, "SYNCED")
	damage(t, dir, empty, "")
	damage(t, dir, cut, "cut")
	damage(t, dir, zeros, "\x00\x00\x00\x00\x00")

	s = reopen(t, dir)
	lock(t, s)
	for name, want := range map[string]bool{synced: true, whole: true, empty: false, cut: false, zeros: false} {
		if got := has(t, s, name); got != want {
			t.Errorf("Has(%s) = %v", name, got)
		}
	}
	if marked(t, dir) {
		t.Error("the marker is still there")
	}
	put(t, s, "zeros")
	if b, err := os.ReadFile(filepath.Join(dir, zeros)); err != nil || string(b) != "zeros" {
		t.Errorf("put again: %q, %v", b, err)
	}
}

// Somebody who puts without the lock gets the same protection.
func TestRecoveryAtFirstPut(t *testing.T) {
	dir := t.TempDir()
	s := create(t, dir)
	zeros := put(t, s, "zeros")
	powerCut(t, dir)
	damage(t, dir, zeros, "\x00\x00\x00\x00\x00")
	publisher := reopen(t, dir)
	other := reopen(t, dir)
	unlock, err := publisher.Lock(t.Context(), "publisher")
	if err != nil {
		t.Fatal(err)
	}
	if has(t, other, zeros) {
		t.Error("damage survived Lock")
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	put(t, publisher, "zeros")
	powerCut(t, dir)
	damage(t, dir, zeros, "\x00\x00\x00\x00\x00")
	put(t, other, "something else")
	if has(t, other, zeros) {
		t.Error("damage survived the first Put")
	}
}

// An object carries the time of its marker, whatever the clock says when it is
// put: a clock that was set back does not hide it.
func TestObjectsCarryTheirGeneration(t *testing.T) {
	dir := t.TempDir()
	s := create(t, dir)
	put(t, s, "first")
	marker, err := os.Stat(filepath.Join(dir, dirty))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	name := put(t, s, "zeros")
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil || !info.ModTime().Equal(marker.ModTime()) {
		t.Errorf("an object's time is the clock's %v, not the marker's %v: %v", info.ModTime(), marker.ModTime(), err)
	}
}

// After a crash of the process alone, its objects are whole but not durable:
// they stay marked until the next Sync.
func TestMarkerOfADeadProcess(t *testing.T) {
	dir := t.TempDir()
	put(t, create(t, dir), "object")
	s := reopen(t, dir)
	lock(t, s)
	if !marked(t, dir) {
		t.Fatal("the marker went away without a sync")
	}
	sync(t, s)
	if marked(t, dir) {
		t.Error("the marker survived a sync")
	}
	sync(t, s)
	put(t, s, "more")
	if !marked(t, dir) {
		t.Error("a put after a sync is not marked")
	}
}

// The kernel reports a failed write-back once. The store does not forget it.
func TestFailedSync(t *testing.T) {
	dir := t.TempDir()
	s := create(t, dir)
	zeros := put(t, s, "zeros")
	local.BreakSync(s)
	for range 2 {
		if err := s.Sync(t.Context()); !errors.Is(err, local.ErrDisk) {
			t.Errorf("Sync: %v", err)
		}
	}
	if err := s.Put(t.Context(), "data/00/11", []byte("x")); !errors.Is(err, local.ErrDisk) {
		t.Errorf("Put after a failed sync: %v", err)
	}
	damage(t, dir, zeros, "\x00\x00\x00\x00\x00")
	again := reopen(t, dir)
	lock(t, again)
	if has(t, again, zeros) {
		t.Error("an object that never reached the disk is taken for present")
	}
}

// TestHelperProcess is no test: it is the publisher that other tests kill.
func TestHelperProcess(t *testing.T) {
	dir := os.Getenv("ROOTSTOCK_TEST_PUBLISHER")
	if dir == "" {
		return // nobody's publisher
	}
	s := reopen(t, dir)
	if _, err := s.Lock(t.Context(), "helper 42"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data/txn/rootstock-left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data/txn/cvmfs-upload"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fmt.Println("locked")
	select {}
}

// However a publisher dies, its lock dies with it, and what it left is cleared
// away, but nothing of others.
func TestLockDiesWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	s := create(t, dir)
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), "ROOTSTOCK_TEST_PUBLISHER="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			t.Fatal("the publisher did not come up")
		}
		if lines.Text() == "locked" {
			break
		}
	}
	if _, err := s.Lock(t.Context(), "me"); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "helper 42") {
		t.Errorf("beside another process: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() //nolint:errcheck // it was killed
	lock(t, s)
	for name, want := range map[string]bool{"rootstock-left": false, "cvmfs-upload": true} {
		if _, err := os.Stat(filepath.Join(dir, "data/txn", name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A holder's name is shown, and cannot forge a message.
// Between taking the lock and leaving a name there is a moment, in which whoever
// comes waits for the name; and he who goes wipes it out before he lets go.
func TestLockWaitsForTheName(t *testing.T) {
	dir := t.TempDir()
	s := create(t, dir)
	f, err := os.OpenFile(filepath.Join(dir, ".rootstock.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // the lock goes with it
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	named := time.AfterFunc(50*time.Millisecond, func() { f.WriteString("anna") }) //nolint:errcheck // seen below
	defer named.Stop()
	if _, err := s.Lock(t.Context(), "bert"); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "anna is publishing") {
		t.Errorf("beside somebody who leaves a name late: %v", err)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	gone := time.AfterFunc(50*time.Millisecond, func() { f.Close() }) //nolint:errcheck // seen below
	defer gone.Stop()
	unlock, err := s.Lock(t.Context(), "bert")
	if err != nil {
		t.Fatalf("beside somebody who is going: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestLockOwnerIsHarmless(t *testing.T) {
	s := create(t, t.TempDir())
	unlock, err := s.Lock(t.Context(), "anna\n\x1b[31m"+strings.Repeat("ä", 1000))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Lock(t.Context(), "bert")
	if err == nil || strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 1000 || !strings.Contains(err.Error(), "anna") {
		t.Errorf("%q", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
