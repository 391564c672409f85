package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkCreates makes containers, a process of the plugin each, with a daemon
// that has their tree, several at a time: creates/s is the goal's, and cpu-ms what
// the plugin's process and the daemon's work take of a processor for one, which
// says more on a busy machine.
func BenchmarkCreates(b *testing.B) {
	c := warmCell(b)
	for _, kind := range []string{"plugin.json", "guardian.json"} {
		for _, parallel := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("%s/%d", kind, parallel), func(b *testing.B) {
				daemon := c.cpu()
				create := func(i int) time.Duration {
					cmd := exec.Command(c.s.bin+"/rootstock-plugin", "--config", filepath.Join(c.dir, kind),
						"create", "cvmfs://"+siteName+"/rootfs/one", fmt.Sprintf("h%d", i))
					if err := cmd.Run(); err != nil {
						b.Errorf("create: %v", err)
						return 0
					}
					return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				}
				b.ResetTimer()
				spent := shared(parallel, b.N, create)
				b.StopTimer()
				spent += c.cpu() - daemon
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
				b.ReportMetric(float64(spent.Microseconds())/1000/float64(b.N), "cpu-ms")
				b.ReportMetric(0, "ns/op")
				shared(4, b.N, func(i int) time.Duration { c.plugin(kind, "delete", fmt.Sprintf("h%d", i)); return 0 })
			})
		}
	}
}

// warmCell is a cell that has made a container of each kind from rootfs/one.
func warmCell(b *testing.B) *cellDaemon {
	b.Helper()
	needRoot(b)
	s := newSite(b)
	tar := filepath.Join(s.dir, "tree.tar")
	run(b, s.dir, "python3", abs(b, "testdata/tree.py"), tar)
	s.publish(b, "rootfs", "one", "1", tar)
	c := s.cell(b)
	c.config("guardian.json", guardian)
	for _, kind := range []string{"plugin.json", "guardian.json"} {
		c.create(kind, "rootfs/one", "warm")
		c.plugin(kind, "delete", "warm")
	}
	return c
}

// shared has n calls made by so many at a time, and adds up what they return.
func shared(workers, n int, call func(i int) time.Duration) time.Duration {
	var next, sum atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				sum.Add(int64(call(i)))
			}
		})
	}
	all.Wait()
	return time.Duration(sum.Load())
}

// cpu is the processor time that the daemon has used.
func (c *cellDaemon) cpu() time.Duration {
	c.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	must(c.t, err)
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	user, err := strconv.Atoi(f[11])
	must(c.t, err)
	system, err := strconv.Atoi(f[12])
	must(c.t, err)
	return time.Duration(user+system) * 10 * time.Millisecond // of USER_HZ, which is 100 everywhere
}

// alive is how many containers a busy cell has.
const alive = 200

// BenchmarkAlive keeps as many containers as a busy cell has, half of them with a
// user namespace: what the daemon has grown to, and what each takes of the kernel.
func BenchmarkAlive(b *testing.B) {
	c := warmCell(b)
	kind := func(i int) string { return []string{"plugin.json", "guardian.json"}[i%2] }
	resident := func() float64 {
		return float64(kilobytes(b, fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid), "VmRSS")) / 1024
	}
	before := resident()
	g := newMemoryGroup(b)
	c.within = g.procs()
	for b.Loop() {
		for i := range alive {
			c.create(kind(i), "rootfs/one", fmt.Sprintf("h%d", i))
		}
		kernel := g.kernel(b)
		if kernel == 0 {
			b.Error("no kernel memory is counted for the plugin's control group")
		}
		b.ReportMetric(float64(kernel)/1024/alive, "kernel-kB-each")
		b.ReportMetric(resident(), "daemon-MiB")
		for i := range alive {
			c.plugin(kind(i), "delete", fmt.Sprintf("h%d", i))
		}
	}
	b.ReportMetric(before, "daemon-before-MiB")
	b.ReportMetric(0, "ns/op")
}
