package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// readyFlag is the descriptor that a background process says "mounted" to.
const readyFlag = "ready-fd"

// mountInBackground runs this program again, in a session of its own, with the
// arguments of a mount, and returns once that is ready or has failed. What it
// says before that goes to our standard error.
func mountInBackground(cmd *cobra.Command, args []string) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("mount in the background: %w", err)
	}
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--background" || strings.HasPrefix(a, "--background=") })
	// In front, since what follows a -- would be no flag.
	args = slices.Insert(args, 0, "--"+readyFlag+"=3")
	if !slices.ContainsFunc(args, func(a string) bool { return a == "--log" || strings.HasPrefix(a, "--log=") }) {
		args = slices.Insert(args, 0, "--log=syslog")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("mount in the background: %w", err)
	}
	defer r.Close() //nolint:errcheck // read only
	//nolint:noctx // it outlives this command, and the context with it
	child := exec.Command(exe, args...) // #nosec G204 -- ourselves, with our own arguments
	child.ExtraFiles = []*os.File{w}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	errs, err := child.StderrPipe()
	if err != nil {
		return fmt.Errorf("mount in the background: %w", err)
	}
	err = child.Start()
	w.Close() //nolint:errcheck // the child's now
	if err != nil {
		return fmt.Errorf("mount in the background: %w", err)
	}
	// A caller that is told to stop takes the mount back.
	stop := context.AfterFunc(cmd.Context(), func() { child.Process.Signal(syscall.SIGTERM) }) //nolint:errcheck // it may have ended
	defer stop()
	said, _ := io.ReadAll(io.LimitReader(errs, 64<<10)) // ends when the child lets go of it
	line, err := bufio.NewReader(io.LimitReader(r, 64<<10)).ReadString('\n')
	if err == nil {
		fmt.Fprint(cmd.ErrOrStderr(), string(said))
		fmt.Fprint(cmd.OutOrStdout(), line)
		return nil
	}
	failed := child.Wait()
	// The child's program name and advice are ours as well.
	text, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\nsee ")
	before, last := "", text
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		before, last = text[:i+1], text[i+1:]
	}
	fmt.Fprint(cmd.ErrOrStderr(), before)
	if last = strings.TrimPrefix(last, "rootstock-cell: "); last == "" {
		return fmt.Errorf("mount in the background: ended before it was ready: %w", failed)
	}
	return errors.New(last)
}

// letGo frees the caller's terminal or pipes, and its directory.
func letGo() error {
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("leave the directory: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer null.Close() //nolint:errcheck // its copies stay
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("replace descriptor %d: %w", fd, err)
		}
	}
	return nil
}

// systemLog writes to the system's log. A machine without one, say a small
// container, is no reason not to mount: it is said and the log goes nowhere.
func systemLog() io.Writer {
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "rootstock-cell")
	if err != nil {
		fmt.Fprintf(os.Stderr, "no system log (%v): give --log FILE to keep a log\n", err)
		return io.Discard
	}
	return w
}
