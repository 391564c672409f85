package cli

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Only the monitor's timers become late.
func TestPatient(t *testing.T) {
	slack := func(tid string) string {
		b, err := os.ReadFile(slackFile(tid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	tid, err := monitorThread()
	if err != nil {
		t.Fatal(err)
	}
	before := slack(tid)
	t.Cleanup(func() { os.WriteFile(slackFile(tid), []byte(before), 0) }) //nolint:errcheck // for this process only
	patient(slog.New(slog.DiscardHandler))
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		t.Fatal(err)
	}
	late := 0
	for _, path := range threads {
		if slack(filepath.Base(path)) == strconv.Itoa(monitorSlack) {
			late++
		}
	}
	if late != 1 || slack(tid) != strconv.Itoa(monitorSlack) {
		t.Errorf("%d of %d threads have late timers, the monitor's slack is %s ns", late, len(threads), slack(tid))
	}
}
