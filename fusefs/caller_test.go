package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

// Signals that run times send themselves, and children that end, do not fail a
// call that waits: nothing does on a local disk. Its caller can be killed all
// the same, though the kernel tells of no second signal.
func TestSignalsThatEndNoWait(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("SKIPPED: no python3 to send signals to")
	}
	// By the C library, which does not retry.
	const script = `import ctypes,signal,sys
for s in (signal.SIGUSR1,signal.SIGURG,signal.SIGCHLD,signal.SIGPROF):
    signal.signal(s,lambda *a: None); signal.siginterrupt(s,True)
c=ctypes.CDLL(None,use_errno=True)
print(c.access(sys.argv[1].encode(),0),ctypes.get_errno())`
	for _, end := range []string{"answer", "kill"} {
		t.Run(end, func(t *testing.T) {
			v := small()
			m := mount(t, v, fusefs.Options{Deadline: 10 * time.Minute, Grace: 10 * time.Minute})
			began, answer := make(chan struct{}, 10), make(chan struct{})
			v.SetHook(func(ctx context.Context, op viewtest.Op, _ view.Node) error {
				if op != viewtest.OpLookup {
					return nil
				}
				began <- struct{}{}
				select {
				case <-answer:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			var out bytes.Buffer
			cmd := exec.Command(python, "-c", script, m.path("/file"))
			cmd.Stdout = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-began
			for _, s := range []unix.Signal{unix.SIGUSR1, unix.SIGURG, unix.SIGCHLD, unix.SIGPROF} {
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				t.Fatalf("ended by a signal that ends no wait: %v, %s", err, &out)
			case <-time.After(300 * time.Millisecond):
			}
			if n := m.conn.Stats().Interrupts; n != 0 {
				t.Errorf("%d interrupts", n)
			}
			if end == "answer" {
				close(answer)
				if err := <-ended; err != nil || out.String() != "0 0\n" {
					t.Errorf("result and errno %q, %v", out.String(), err)
				}
				return
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := <-ended; !errors.As(err, &exit) || exit.String() != "signal: killed" {
				t.Errorf("killed: %v", err)
			}
		})
	}
}
