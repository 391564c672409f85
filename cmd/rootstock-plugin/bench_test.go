package main_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// BenchmarkCreateDelete times whole processes, as Garden waits for them, and
// prints the median and the 99th percentile of each call in milliseconds, and
// the median of the CPU time, which says more on a busy machine. Run it with
// -benchtime 300x or more for a percentile that means something.
func BenchmarkCreateDelete(b *testing.B) {
	for _, bc := range []struct {
		name    string
		mapped  bool
		limited bool
	}{{"plain", false, false}, {"mapped", true, false}, {"limited", false, true}} {
		b.Run(bc.name, func(b *testing.B) {
			mapping := guardian
			if !bc.mapped {
				mapping = nil
			}
			h := newHost(b, mapping)
			args := []string{"create"}
			if bc.limited {
				args = append(args, "--disk-limit-size-bytes", "1073741824")
			}
			var creates, deletes times
			for i := 0; b.Loop(); i++ {
				handle := fmt.Sprintf("h%d", i)
				creates.add(h.time(append(args, uri, handle)...))
				deletes.add(h.time("delete", handle))
			}
			creates.report(b, "create")
			deletes.report(b, "delete")
			h.nothingLeft()
		})
	}
}

// time runs the plugin without the cost of a test's pipes.
func (h *host) time(args ...string) (wall, cpu time.Duration) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(h.t, err)
	defer null.Close()
	argv := append([]string{programs.plugin, "--config", h.config}, args...)
	start := time.Now()
	p, err := os.StartProcess(programs.plugin, argv, &os.ProcAttr{Files: []*os.File{nil, null, null}})
	must(h.t, err)
	state, err := p.Wait()
	wall = time.Since(start)
	must(h.t, err)
	if !state.Success() {
		h.t.Fatalf("%v: %v", args, state)
	}
	return wall, state.UserTime() + state.SystemTime()
}

type times struct{ wall, cpu []time.Duration }

func (t *times) add(wall, cpu time.Duration) {
	t.wall, t.cpu = append(t.wall, wall), append(t.cpu, cpu)
}

func (t *times) report(b *testing.B, call string) {
	slices.Sort(t.wall)
	slices.Sort(t.cpu)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	n := len(t.wall)
	b.ReportMetric(ms(t.wall[n/2]), call+"-p50-ms")
	b.ReportMetric(ms(t.wall[n*99/100]), call+"-p99-ms")
	b.ReportMetric(ms(t.cpu[n/2]), call+"-cpu-ms")
}
