// Package rig is what end-to-end tests are built on: the programs as they are
// deployed, directories served over HTTP, cells that mount them, and listings of
// whole mounts that can be compared.
//
// All of it ends with the test: mounts go before the processes that serve them,
// and what does not end is killed and reported.
package rig

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait. It is long because machines are slow under the
// race detector, not because anything should take that long.
const patience = 60 * time.Second

// Build compiles the programs into dir, statically.
func Build(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", dir+"/",
		"github.com/rootstock-cf/rootstock/cmd/rootstock", "github.com/rootstock-cf/rootstock/cmd/rootstock-cell",
		"github.com/rootstock-cf/rootstock/cmd/rootstock-plugin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, said)
	}
	return nil
}

// Serve serves a directory over HTTP until the test ends and returns its URL.
func Serve(t testing.TB, dir string) string {
	t.Helper()
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	return s.URL
}

// Run runs a command, which must end well, and returns what it said.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Process is a program that runs beside the test.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan error
	said Output
}

// Output is what a program that still runs has said so far. Its methods may be
// called concurrently.
type Output struct {
	mu   sync.Mutex
	said bytes.Buffer
}

// Write implements [io.Writer].
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.Write(b)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.String()
}

// Said is what the program has said so far.
func (p *Process) Said() string { return p.said.String() }

// Start starts cmd. It is told to end when the test does.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- cmd.Wait() }()
	t.Cleanup(p.End)
	return p
}

// Until waits until ready says so, failing the test when the program ends or
// time runs out before.
func (p *Process) Until(what string, ready func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !ready(); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-p.done:
			p.done <- err
			if ready() {
				return
			}
			p.t.Fatalf("%s ended (%v) before %s:\n%s", filepath.Base(p.cmd.Path), err, what, p.Said())
		default:
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s: no %s:\n%s", filepath.Base(p.cmd.Path), what, p.Said())
		}
	}
}

// Wait waits for the program to end by itself.
func (p *Process) Wait() error {
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(patience):
		return fmt.Errorf("still running after %v", patience)
	}
}

// Kill ends the program as a crash would.
func (p *Process) Kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	p.Wait()             //nolint:errcheck // it cannot end well
}

// End tells the program to end and waits for it.
func (p *Process) End() {
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	if p.Wait() == nil {
		return
	}
	if p.cmd.ProcessState == nil {
		p.t.Errorf("%s did not end when told to", p.cmd.Path)
		p.cmd.Process.Kill() //nolint:errcheck // likewise
	}
}

// Cell mounts with rootstock-cell from bin, whose further arguments say what,
// and returns the mountpoint. env is added to the environment.
func Cell(t testing.TB, bin string, env []string, args ...string) (string, *Process) {
	t.Helper()
	dir := t.TempDir()
	mount := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := cell(bin, filepath.Join(dir, "cache"), mount, args)
	cmd.Env = append(os.Environ(), env...)
	p := Start(t, cmd)
	p.Until("the mount", func() bool {
		return strings.Contains(p.Said(), "\nmounted ") || strings.HasPrefix(p.Said(), "mounted ")
	})
	return mount, p
}

func cell(bin, cache, mount string, args []string) *exec.Cmd {
	full := append([]string{"mount", "--cache", cache}, args...)
	//nolint:noctx // ended by End, which lets it unmount
	return exec.Command(filepath.Join(bin, "rootstock-cell"), append(full, mount)...)
}

// Refused mounts what must not be mounted and returns what was said.
func Refused(t testing.TB, bin string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	mount := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	p := Start(t, cell(bin, filepath.Join(dir, "cache"), mount, args))
	for range int(patience / (10 * time.Millisecond)) {
		select {
		case err := <-p.done:
			p.done <- err
			if err == nil {
				t.Errorf("ended well:\n%s", p.Said())
			}
			return p.Said()
		case <-time.After(10 * time.Millisecond):
		}
		if Mounted(mount) {
			t.Errorf("mounts:\n%s", p.Said())
			return p.Said()
		}
	}
	t.Errorf("neither mounts nor ends:\n%s", p.Said())
	return p.Said()
}

// Mounted reports whether something is mounted at dir, without asking it.
func Mounted(dir string) bool {
	table, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(string(table), " "+dir+" ")
}
