package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rootstock-cf/rootstock/manifest"
)

// patience bounds what a script waits for. It is long because machines are
// slow under the race detector, not because anything should take that long.
const patience = 60 * time.Second

// daemon is a process that runs beside the script.
type daemon struct {
	cmd  *exec.Cmd
	done chan error
	mu   sync.Mutex
	said []byte
}

var (
	daemonsMu sync.Mutex
	daemons   = map[*testscript.TestScript]map[string]*daemon{}
)

// daemon NAME REGEXP COMMAND ARG...
//
// Starts a program of ours and waits until a line of its output matches; the
// first submatch becomes the environment variable NAME. With a leading "!" the
// program must instead end with an error, saying what matches.
func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: daemon NAME REGEXP COMMAND ARG...")
	}
	name, want := args[0], regexp.MustCompile(args[1])
	d := &daemon{cmd: command(ts, args[2:]), done: make(chan error, 1)}
	r, w, err := os.Pipe()
	ts.Check(err)
	d.cmd.Stdout, d.cmd.Stderr = w, w
	ts.Check(d.cmd.Start())
	w.Close()
	matched := make(chan []string, 1)
	go d.read(r, want, matched)
	ts.Defer(func() { d.end() })
	select {
	case m := <-matched:
		if neg {
			if err := d.wait(); err == nil {
				ts.Fatalf("daemon %s said %q and ended well", name, m[0])
			}
			return
		}
		if len(m) > 1 {
			ts.Setenv(name, m[1])
		}
	case err := <-d.done:
		d.done <- err                     // for whoever waits for it later
		time.Sleep(50 * time.Millisecond) // the reader may be a line behind
		d.mu.Lock()
		defer d.mu.Unlock()
		if !neg || err == nil || !want.Match(d.said) {
			ts.Fatalf("daemon %s ended (%v) without a line like %q:\n%s", name, err, want, d.said)
		}
		return
	case <-time.After(patience):
		ts.Fatalf("daemon %s said nothing like %q:\n%s", name, want, d.said)
	}
	daemonsMu.Lock()
	defer daemonsMu.Unlock()
	if daemons[ts] == nil {
		daemons[ts] = map[string]*daemon{}
	}
	daemons[ts][name] = d
}

// command is a program as the script's own exec would run it: found on the
// script's PATH, in its directory, with its PATH and HOME.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path := lookIn(ts, args[0])
	if path == "" {
		ts.Fatalf("no program %s on PATH", args[0])
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "PATH="+ts.Getenv("PATH"))
	return cmd
}

// lookIn is the program of that name on the script's PATH, or empty.
func lookIn(ts *testscript.TestScript, name string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 && !st.IsDir() {
			return p
		}
	}
	return ""
}

func (d *daemon) read(r io.ReadCloser, want *regexp.Regexp, matched chan<- []string) {
	defer r.Close()
	once := false
	for s := bufio.NewScanner(r); s.Scan(); {
		d.mu.Lock()
		d.said = append(append(d.said, s.Bytes()...), '\n')
		d.mu.Unlock()
		if m := want.FindStringSubmatch(s.Text()); m != nil && !once {
			once = true
			matched <- m
		}
	}
	d.done <- d.cmd.Wait()
}

func (d *daemon) wait() error {
	select {
	case err := <-d.done:
		d.done <- err
		return err
	case <-time.After(patience):
		return fmt.Errorf("still running after %s", patience)
	}
}

func (d *daemon) end() {
	d.cmd.Process.Signal(syscall.SIGTERM)
	if d.wait() != nil {
		d.cmd.Process.Kill()
		d.wait()
	}
}

// end NAME sends SIGTERM to a daemon, which must then end well; its output
// goes to the script's standard output. (stop is testscript's own command, which
// ends the script.)
func cmdEnd(ts *testscript.TestScript, neg bool, args []string) {
	daemonsMu.Lock()
	d := daemons[ts][args[0]]
	daemonsMu.Unlock()
	if d == nil {
		ts.Fatalf("no daemon %s", args[0])
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	err := d.wait()
	d.mu.Lock()
	fmt.Fprintf(ts.Stdout(), "%s", d.said)
	d.mu.Unlock()
	if (err != nil) != neg {
		ts.Fatalf("daemon %s ended with %v", args[0], err)
	}
}

// tmpfs DIR SIZE mounts a small file system, to be filled.
func cmdTmpfs(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// keys DIR FQRN makes a repository's keys, smaller ones than init does: RSA-4096
// takes long under the race detector, and init takes keys that are there.
func cmdKeys(ts *testscript.TestScript, _ bool, args []string) {
	k, master, err := manifest.GenerateKeys(args[1], manifest.KeyOptions{Bits: 2048})
	ts.Check(err)
	ts.Check(k.Write(ts.MkAbs(args[0]), master))
}

// code N PROGRAM ARG... runs a program of ours that must end with exit code N;
// what it printed is the script's output.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARG...")
	}
	cmd := command(ts, args[1:])
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got := cmd.ProcessState.ExitCode(); fmt.Sprint(got) != args[0] {
		ts.Fatalf("%s ended with %d, not %s", args[1], got, args[0])
	}
}

// await COMMAND ARG... runs a command again and again until it succeeds.
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(patience); ; {
		err := command(ts, args).Run()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v: %v after %s", args, err, patience)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
