// Package testterminal gives tests a real terminal: what a command writes to
// one end, the test reads at the other.
package testterminal

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// New opens a terminal that is so many columns wide until the test ends: tty is
// what a command writes to, shown what people see of it.
func New(t testing.TB, columns uint16) (shown, tty *os.File) {
	t.Helper()
	open := func(name string) *os.File {
		f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0) // #nosec G304
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() }) //nolint:errcheck,gosec // nothing is kept
		return f
	}
	shown = open("/dev/ptmx")
	if err := unix.IoctlSetPointerInt(int(shown.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(shown.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty = open("/dev/pts/" + strconv.Itoa(n))
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return shown, tty
}
