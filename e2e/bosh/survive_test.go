package bosh_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lateFiles are published for reads that nothing has cached, each in a directory
// of its own, so that reading one fetches no other.
const lateFiles = 6

func lateFile(i int) (name string, contents []byte) {
	contents = make([]byte, 300<<10)
	random := rand.NewChaCha8([32]byte{byte(i)})
	random.Read(contents)
	return fmt.Sprintf("/late%d/file", i), contents
}

// pidFile is where monit looks for a process.
func pidFile(job, process string) string {
	return "/var/vcap/sys/run/bpm/" + job + "/" + process + ".pid"
}

// first is the first process of a container, which monit watches.
func first(t *testing.T, job, process string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, pidFile(job, process))))
	must(t, err)
	return pid
}

// child is the program that the first process of a container runs.
func child(t *testing.T, job, process string) int {
	t.Helper()
	said := command(t, "pgrep", "-P", strconv.Itoa(first(t, job, process)))
	pid, err := strconv.Atoi(strings.TrimSpace(said))
	must(t, err)
	return pid
}

// ends waits until a process is there no more.
func ends(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d does not end", pid)
		}
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	must(t, unix.Kill(pid, unix.SIGKILL))
	ends(t, pid)
}

// reader is a container that reads one of the late files.
type reader struct {
	cmd  *exec.Cmd
	out  *bufio.Reader
	errs bytes.Buffer
	want string
}

// reads starts one on c's root and returns once it is about to read.
func reads(t *testing.T, c made, i int) *reader {
	t.Helper()
	name, contents := lateFile(i)
	r := &reader{want: fmt.Sprintf("%x\n", sha256.Sum256(contents))}
	c.handle += fmt.Sprintf("-late%d", i)
	r.cmd = exec.CommandContext(t.Context(), "runc", c.bundle(t, "/late", name)...)
	r.cmd.Stderr = &r.errs
	out, err := r.cmd.StdoutPipe()
	must(t, err)
	r.out = bufio.NewReader(out)
	must(t, r.cmd.Start())
	if said, err := r.out.ReadString('\n'); said != "reading\n" {
		t.Fatalf("the container says %q, %v: %s%s", said, err, r.cmd.Wait(), r.errs.String())
	}
	return r
}

// succeeds waits for it: what it read has to be right.
func (r *reader) succeeds(t *testing.T) {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() { r.cmd.Process.Kill() })
	defer timer.Stop()
	said, _ := io.ReadAll(r.out)
	if err := r.cmd.Wait(); err != nil || string(said) != r.want {
		t.Errorf("a container read %q, %v: %s\n%s", said, err, r.errs.String(), logs("rootstock-cell"))
	}
}

// survives has the daemon die in two ways while a container waits for what is not
// cached, then the holder, then the daemon once more: nobody sees an error.
func survives(t *testing.T, c made) {
	t.Helper()
	const job, worker, holder = "rootstock-cell", "rootstock-cell", "rootstock-holder"
	before := status(t)
	if before.WorkerPID != child(t, job, worker) || before.HolderPID != child(t, job, holder) {
		t.Errorf("status says worker %d, holder %d: the machine numbers them %d, %d",
			before.WorkerPID, before.HolderPID, child(t, job, worker), child(t, job, holder))
	}
	start := func(process string) {
		t.Helper()
		monit(t, job, "start", process)
		script(t, job, "post-start", postStartLimit)
	}
	reads(t, c, 5).succeeds(t) // the program is cached from here on
	// The server does not answer, so the daemon dies with the request.
	server := child(t, "rootstock-stratum0", "rootstock-stratum0")
	dies := func(i int, kills func()) {
		t.Helper()
		must(t, unix.Kill(server, unix.SIGSTOP))
		r := reads(t, c, i)
		// Dying before the request got to the daemon has to be as well: this only
		// makes it likely that it did.
		time.Sleep(300 * time.Millisecond)
		kills()
		must(t, unix.Kill(server, unix.SIGCONT))
		start(worker)
		r.succeeds(t)
	}
	dies(0, func() { kill(t, before.WorkerPID) })
	// As bpm does it to who does not end in time: the container goes, and the
	// daemon, which is in no PID namespace of the container's, with it.
	dies(1, func() {
		pid := status(t).WorkerPID
		kill(t, first(t, job, worker))
		ends(t, pid)
	})
	dies(2, func() { monit(t, job, "stop", worker) })
	if now := status(t); now.HolderPID != before.HolderPID {
		t.Errorf("the holder was process %d and is %d", before.HolderPID, now.HolderPID)
	}

	// The holder dies, and gets everything back.
	kill(t, before.HolderPID)
	reads(t, c, 3).succeeds(t)
	start(holder)
	if now := status(t).HolderPID; now == before.HolderPID || now != child(t, job, holder) {
		t.Errorf("the holder was process %d and is %d", before.HolderPID, now)
	}
	dies(4, func() { kill(t, status(t).WorkerPID) })
	if said := logs(job); strings.Contains(said, "had died") {
		t.Errorf("a mount was removed:\n%s", said)
	}
}

// crash kills both, whose mounts are dead then: both have to be back after what
// monit does, in whichever order.
func crash(t *testing.T) {
	t.Helper()
	before := status(t)
	kill(t, before.HolderPID)
	kill(t, before.WorkerPID)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var st unix.Statfs_t // the kernel has to ask the daemon
		if err := unix.Statfs(shown, &st); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("both were killed, and the mount still answers")
		}
	}
	// The daemon first: it waits for the holder.
	started := make(chan error, 1)
	go func() { started <- exec.Command("/var/vcap/jobs/bpm/bin/bpm", "start", "rootstock-cell").Run() }()
	monit(t, "rootstock-cell", "start", "rootstock-holder")
	must(t, <-started)
	script(t, "rootstock-cell", "post-start", postStartLimit)
	if _, err := os.Stat(shown + "/rootfs/hello/1/inside"); err != nil {
		t.Errorf("after the restart: %v\n%s", err, logs("rootstock-cell"))
	}
	if said := logs("rootstock-cell"); !strings.Contains(said, "removed "+shown+", whose holder and daemon had died") {
		t.Errorf("the dead mount was not removed:\n%s", said)
	}
}
