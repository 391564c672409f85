package cli

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
)

// monitorSlack is how much later than it asked for the run time's monitor may be
// woken, in nanoseconds. The kernel's own default is 50 µs.
const monitorSlack = 300_000

// patient has the Go run time's monitor thread wake up less often. While anything
// is running it sleeps for 20 µs at a time, to see whether a system call takes
// long; in a daemon that does little else than system calls that was a seventh
// of its processor time. Where it is not allowed (it takes CAP_SYS_NICE) nothing
// changes.
func patient(log *slog.Logger) {
	tid, err := monitorThread()
	if err == nil {
		err = os.WriteFile(slackFile(tid), strconv.AppendInt(nil, monitorSlack, 10), 0)
	}
	if err != nil {
		log.Debug("the run time's monitor wakes up as often as ever", "error", err)
	}
}

func slackFile(tid string) string { return "/proc/" + tid + "/timerslack_ns" }

// monitorThread is the first thread that the run time starts, and never ends.
func monitorThread() (tid string, err error) {
	d, err := os.Open("/proc/self/task")
	if err != nil {
		return "", err
	}
	defer d.Close() //nolint:errcheck // read only
	// In the order in which they were started.
	list, err := d.Readdirnames(2)
	if err != nil {
		return "", err
	}
	if len(list) < 2 {
		return "", fmt.Errorf("threads: there is only %v", list)
	}
	return list[1], nil
}
