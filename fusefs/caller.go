package fusefs

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel sends an INTERRUPT for whatever signal a caller gets while it
// waits, once for a request, and hands on the answer as it is. A local disk is
// waited for regardless, so programs do not expect EINTR of open and read, and
// the signals that run times send their own threads (SIGURG, SIGPROF, SIGVTALRM,
// a stop of the world), children that end and freezers are none of their doing.
// An answer before its time is therefore only for who is dying, and for who got
// a signal by which people and timers end a wait.

// callerLook is the time between two looks at a caller whose interrupt was not
// obeyed: it may be killed yet, which the kernel does not say.
const callerLook = 100 * time.Millisecond

const endsWait = 1<<(unix.SIGHUP-1) | 1<<(unix.SIGINT-1) | 1<<(unix.SIGQUIT-1) |
	1<<(unix.SIGALRM-1) | 1<<(unix.SIGTERM-1) | killed

const killed = 1 << (unix.SIGKILL - 1)

// gaveUp reports whether the caller, a thread, wants its wait to end. One that
// cannot be looked at, such as one of another process namespace, does.
func gaveUp(pid uint32) bool {
	if pid == 0 {
		return true
	}
	f, err := os.Open("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/status")
	if err != nil {
		return true
	}
	defer f.Close() //nolint:errcheck // only read
	var b [4096]byte
	n, err := f.Read(b[:])
	if err != nil {
		return true
	}
	status := b[:n]
	own, ok := signals(status, "SigPnd:")
	all, ok2 := signals(status, "ShdPnd:")
	blocked, ok3 := signals(status, "SigBlk:")
	if !ok || !ok2 || !ok3 {
		return true
	}
	return (own|all)&^blocked&endsWait != 0
}

// signals reads one of the sets in a thread's status.
func signals(status []byte, name string) (set uint64, ok bool) {
	_, rest, ok := bytes.Cut(status, []byte("\n"+name))
	line, _, whole := bytes.Cut(rest, []byte("\n"))
	if !ok || !whole {
		return 0, false
	}
	set, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return set, err == nil
}
