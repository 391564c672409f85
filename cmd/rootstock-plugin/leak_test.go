package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// cyclesVar names the environment variable with how often TestLeaks goes
// around; a day's worth on a busy cell is 10000.
const cyclesVar = "ROOTSTOCK_TEST_CYCLES"

// inUse counts what a host runs out of, as far as it is ours: others mount
// things at the same time.
func (h *host) inUse(t *testing.T) map[string]int {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return map[string]int{"mounts": strings.Count(string(mounts), h.dir), "descriptors": len(fds), "goroutines": runtime.NumGoroutine()}
}

// After many containers, of each kind and some that failed, nothing is left:
// no mount, loop device, file, pin, descriptor or goroutine of the daemon.
func TestLeaks(t *testing.T) {
	cycles := 120
	if testing.Short() {
		cycles = 20
	}
	if text := os.Getenv(cyclesVar); text != "" {
		var err error
		cycles, err = strconv.Atoi(text)
		must(t, err)
	}
	h := newHost(t, guardian)
	cycle := func(i int) {
		handle := fmt.Sprintf("h%d", i)
		args := []string{"create", uri, handle}
		switch i % 20 {
		case 3:
			args = append(args, "--disk-limit-size-bytes", "10000000")
		case 7:
			args = append(args, "--disk-limit-size-bytes", "1") // smaller than the image
		case 11:
			args[1] = "docker:///library/none"
		}
		out, code := h.plugin(args...)
		if want := i%20 == 7 || i%20 == 11; (code != 0) != want {
			t.Fatalf("%v: exit %d: %s", args, code, out)
		}
		if out, code := h.plugin("delete", handle); code != 0 {
			t.Fatalf("delete: exit %d: %s", code, out)
		}
	}
	for i := range 20 { // what is made once
		cycle(i)
	}
	before := h.inUse(t)
	for i := range cycles {
		cycle(i)
	}
	h.nothingLeft()
	for what, n := range h.inUse(t) {
		if n > before[what]+2 { // a connection of the last call may be closing
			t.Errorf("%d %s, %d before %d cycles", n, what, before[what], cycles)
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	for _, b := range backing {
		if text, err := os.ReadFile(b); err == nil && strings.HasPrefix(string(text), h.store) {
			t.Errorf("still bound: %s", text)
		}
	}
}
