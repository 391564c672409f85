package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A real Prometheus that scrapes one cell and a target that is down: rootstock
// fleet has the counts of the one, and names the other.
func TestFleetFromPrometheus(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	tar := filepath.Join(s.dir, "tree.tar")
	must(t, os.MkdirAll(filepath.Join(s.dir, "tree/etc"), 0o755))
	run(t, "", "tar", "-C", filepath.Join(s.dir, "tree"), "-cf", tar, ".")
	s.publish(t, "rootfs", "demo", "1", tar)
	metrics, web := freeAddress(t), freeAddress(t)
	c := s.cell(t, "--metrics", metrics)
	c.create("plugin.json", "rootfs/demo@1", "a")
	c.create("plugin.json", "rootfs/demo", "b")
	dir := filepath.Join(s.dir, "prometheus")
	must(t, os.Mkdir(dir, 0o755))
	conf := fmt.Sprintf("scrape_configs:\n- job_name: cells\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  static_configs:\n  - targets: [%q, %q]\n", metrics, "127.0.0.1:1")
	must(t, os.WriteFile(dir+"/p.yml", []byte(conf), 0o600))
	cmd := exec.Command("prometheus", "--config.file="+dir+"/p.yml", "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+web)
	log, err := os.Create(dir + "/log")
	must(t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var out []byte
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		out, err = exec.Command(s.bin+"/rootstock", "fleet", "--prometheus", "http://"+web+"/").CombinedOutput()
		if strings.Contains(string(out), "2 containers on 1 cells") && strings.Contains(string(out), "127.0.0.1:1") {
			break
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(dir + "/log")
			t.Fatalf("%v\n%s\n%s", err, out, said)
		}
	}
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 4 {
		t.Errorf("ended with %v", err)
	}
	for _, want := range []string{
		`cvmfs://site\.example\.org/rootfs/demo +1 +- +2 +1 +0`, `cell 127\.0\.0\.1:1 did not answer: prometheus cannot scrape it`,
		`(?m)^2 containers on 1 cells, 0 behind; 1 cells did not answer$`,
	} {
		wantLine(t, string(out), want)
	}
}

// freeAddress is one of loopback that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}
