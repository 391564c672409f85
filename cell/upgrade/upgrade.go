// Package upgrade swaps the program of a running worker and goes back to the old
// one if the new one does not answer. What flows through it are two files and a
// few calls on the worker's control socket.
//
// The worker executes the new program in its own process, so that a supervisor
// notices nothing; the mounts are the holder's meanwhile. Going back is the
// supervisor's work as well: a worker that does not answer is killed, and what
// starts in its place is the old program, which is in its place again.
package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
)

var (
	// ErrBinary reports a file that is no program for this machine.
	ErrBinary = errors.New("the new program does not run here")
	// ErrWentBack reports a new program that did not answer. The old one is
	// in its place again, and answers.
	ErrWentBack = errors.New("the new program did not answer, and the old one is back")
)

const (
	pause        = 10 * time.Millisecond
	trialTimeout = 20 * time.Second
)

// Options describe an upgrade.
type Options struct {
	Binary string // the new program
	Socket string // the worker's
	// Timeout is how long the new program may take to answer; 30 s.
	Timeout time.Duration
	// Return is how long the old one may take to answer again, supervisor
	// included; 2 min.
	Return time.Duration
}

// Result tells what runs now.
type Result struct {
	Binary string    `json:"worker_binary"`
	PID    int       `json:"worker_pid"`
	Since  time.Time `json:"worker_since"`
	Took   float64   `json:"seconds"`
}

// Run upgrades. When it returns an error, the old program is what runs, unless
// that says otherwise.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Return <= 0 {
		o.Return = 2 * time.Minute
	}
	before, err := status(ctx, o.Socket)
	if err != nil {
		return Result{}, fmt.Errorf("upgrade: %w", err)
	}
	if before.HolderPID == 0 {
		return Result{}, errors.New("upgrade: this worker has no holder, so an upgrade would take the mounts from the containers; start rootstock-cell hold, and the worker with --holder")
	}
	pid, err := peer(ctx, o.Socket)
	if err != nil {
		return Result{}, fmt.Errorf("upgrade: %w", err)
	}
	if err := trial(ctx, o.Binary); err != nil {
		return Result{}, err
	}
	if err := install(o.Binary, before.WorkerBinary); err != nil {
		return Result{}, err
	}
	began := time.Now()
	err = (&control.Client{Socket: o.Socket, Timeout: o.Timeout}).Do(ctx, cell.CallRestart, nil, nil, nil)
	var after cell.Status
	if err == nil {
		after, err = answers(ctx, o.Socket, before.WorkerSince, o.Timeout, pid)
	}
	if err == nil {
		return result(after, began), nil
	}
	// Whatever became of ctx: half an upgrade is none.
	after, berr := goBack(context.WithoutCancel(ctx), o, before, pid)
	if berr != nil {
		return Result{}, fmt.Errorf("upgrade: %w; and going back to the old program: %w", err, berr)
	}
	return result(after, began), fmt.Errorf("upgrade: %w: %w", ErrWentBack, err)
}

func result(s cell.Status, began time.Time) Result {
	return Result{Binary: s.WorkerBinary, PID: s.WorkerPID, Since: s.WorkerSince, Took: time.Since(began).Seconds()}
}

// trial has the program say something harmless, which one for another machine,
// or half of one, does not.
func trial(ctx context.Context, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "run", "--help").CombinedOutput() // #nosec G204 -- the operator's
	if err != nil {
		return fmt.Errorf("upgrade: %w: %s run --help: %w: %.200s", ErrBinary, binary, err, out)
	}
	return nil
}

func previous(target string) string { return target + ".previous" }

// install puts binary in the place of target, which stays as its previous one.
func install(binary, target string) error {
	fresh := target + ".new"
	err := copyFile(binary, fresh)
	if err == nil {
		err = os.Remove(previous(target))
		if err == nil || errors.Is(err, os.ErrNotExist) {
			err = os.Link(target, previous(target))
		}
	}
	if err == nil {
		err = os.Rename(fresh, target)
	}
	if err != nil {
		os.Remove(fresh)
		return fmt.Errorf("upgrade: install %s: %w", target, err)
	}
	return syncDir(filepath.Dir(target))
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from) // #nosec G304 -- the operator's
	if err != nil {
		return err
	}
	defer in.Close()                                                       //nolint:errcheck // read only
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755) // #nosec G302 G304 -- a program
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir) // #nosec G304 -- of our own program
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	defer d.Close() //nolint:errcheck // read only
	if err := d.Sync(); err != nil {
		return fmt.Errorf("upgrade: %s: %w", dir, err)
	}
	return nil
}

// goBack puts the old program back and ends the process that does not answer.
func goBack(ctx context.Context, o Options, before cell.Status, pid int) (cell.Status, error) {
	target := before.WorkerBinary
	if err := os.Rename(previous(target), target); err != nil {
		return cell.Status{}, fmt.Errorf("put %s back: %w", target, err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return cell.Status{}, fmt.Errorf("end process %d: %w", pid, err)
	}
	s, err := answers(ctx, o.Socket, before.WorkerSince, o.Return, 0)
	if err != nil {
		return s, fmt.Errorf("%w: does a supervisor start it again?", err)
	}
	return s, nil
}

// answers waits until another worker than the one of that time answers. It gives
// up early when process pid, unless 0, has ended.
func answers(ctx context.Context, socket string, not time.Time, timeout time.Duration, pid int) (cell.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		s, err := status(ctx, socket)
		if err == nil && !s.WorkerSince.Equal(not) {
			return s, nil
		}
		if pid != 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return s, fmt.Errorf("process %d has ended", pid)
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("no answer within %v", timeout)
		case <-time.After(pause):
		}
	}
}

func status(ctx context.Context, socket string) (s cell.Status, err error) {
	raw, err := (&control.Client{Socket: socket, Timeout: 5 * time.Second}).Status(ctx)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// peer is the process that answers at socket, as this namespace numbers it.
func peer(ctx context.Context, socket string) (int, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // nothing was said
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, cerr); err != nil {
		return 0, err
	}
	if cred.Pid == 0 {
		return 0, errors.New("the worker runs in a process namespace that this command does not see; run it on the machine itself")
	}
	return int(cred.Pid), nil
}
