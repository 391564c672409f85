package fault_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/config"
	"github.com/rootstock-cf/rootstock/client/fetch"
)

// daemonConfig makes this program a cell of its own, to be killed.
const daemonConfig = "ROOTSTOCK_FAULT_DAEMON"

func runDaemon(file string) int {
	o, err := config.Load(file)
	if err == nil {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		var c *cell.Cell
		if c, err = cell.Mount(ctx, o); err == nil {
			err = c.Run(ctx, func() { fmt.Println("ready") })
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// killedWhileWriting fills a cache, kills the process that does at some moment,
// and starts again on what it left.
func killedWhileWriting(t *testing.T, f *fixture) {
	dir := t.TempDir()
	k, master := f.repo.Keys()
	if err := k.Write(dir, master); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "cell.json")
	text := fmt.Sprintf(`{"cache": %q, "socket": %q, "metrics": "off", "scrub": 0, "repositories": [
		{"name": %q, "servers": [%q], "keys": [%q], "mountpoint": %q, "refresh": "1h"}]}`,
		f.o.CacheDir, f.o.Socket, f.repo.Name, f.repo.URL, f.repo.Name+".pub", f.mnt)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// Objects come slowly enough to be met half written.
	f.repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
		b := f.repo.Get(strings.TrimPrefix(r.URL.Path, "/"))
		for len(b) > 0 {
			n := min(len(b), 2048)
			if _, err := w.Write(b[:n]); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			b = b[n:]
			time.Sleep(time.Millisecond)
		}
	})
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), daemonConfig+"="+conf)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 6)); err != nil {
			cmd.Process.Kill()
			cmd.Wait()
			t.Fatalf("daemon did not start: %v", err)
		}
		var readers sync.WaitGroup
		for n := range fileCount {
			readers.Go(func() { os.ReadFile(fmt.Sprintf("%s/dir/%02d", f.mnt, n)) })
		}
		time.Sleep(time.Duration(5+20*round) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		readers.Wait() // with ENOTCONN: nobody answers
		if err := syscall.Unmount(f.mnt, syscall.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		// As a power cut would: what was written last did not get to the disk.
		newest, at := "", time.Time{}
		filepath.WalkDir(f.o.CacheDir, func(path string, d os.DirEntry, err error) error {
			if rel, _ := filepath.Rel(f.o.CacheDir, path); err == nil && d.Type().IsRegular() && len(rel) == 65 {
				if info, err := d.Info(); err == nil && info.ModTime().After(at) {
					newest, at = path, info.ModTime()
				}
			}
			return nil
		})
		if newest != "" {
			info, err := os.Stat(newest)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(newest, make([]byte, info.Size()), 0); err != nil {
				t.Fatal(err)
			}
			os.Chtimes(newest, info.ModTime(), info.ModTime())
		}
	}
	f.repo.Fault("data/", nil)
	f.start()
	f.good("after three kills")
}

// interrupted kills a reader that waits for a server which says nothing.
func interrupted(t *testing.T, f *fixture) {
	f.o.Repositories[0].Network = fetch.Config{TimeoutDirect: 20 * time.Second}
	f.start()
	lookInto(t, f)
	waiting := make(chan struct{}, 10)
	release := make(chan struct{})
	f.repo.Fault(dataOf(f, "/dir/07"), func(w http.ResponseWriter, r *http.Request) {
		waiting <- struct{}{}
		select {
		case <-release:
			w.Write(f.stored(f.files["/dir/07"]))
		case <-r.Context().Done():
		}
	})
	cmd := exec.Command("cat", f.mnt+"/dir/07")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-waiting
	other := make(chan error, 1)
	go func() {
		b, err := os.ReadFile(f.mnt + "/dir/08")
		if err == nil && string(b) != string(f.files["/dir/08"]) {
			err = fmt.Errorf("%d wrong bytes", len(b))
		}
		other <- err
	}()
	cmd.Process.Signal(syscall.SIGINT)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("cat read what nobody sent")
		}
	case <-time.After(15 * time.Second):
		t.Error("cat still waits for the server")
	}
	if err := <-other; err != nil {
		t.Errorf("another reader: %v", err)
	}
	close(release)
	if b, err := f.read("/dir/07"); err != nil || string(b) != string(f.files["/dir/07"]) {
		t.Errorf("afterwards: %v", err)
	}
}

// poisonedProxy has a real squid keep damaged copies of objects.
func poisonedProxy(t *testing.T, f *fixture) {
	squid, err := exec.LookPath("squid")
	if err != nil {
		squid = "/usr/sbin/squid"
	}
	if _, err := os.Stat(squid); err != nil {
		t.Skip("SKIPPED: squid is missing, so no real proxy was poisoned")
	}
	proxy := startSquid(t, squid)
	f.o.Repositories[0].Proxies = proxy
	f.start()
	lookInto(t, f)
	damaged := map[string]bool{}
	f.repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
		b := append([]byte(nil), f.repo.Get(strings.TrimPrefix(r.URL.Path, "/"))...)
		b[len(b)-1] ^= 1
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Write(b)
	})
	for n := range fileCount - 1 { // the last one has been read and is open
		name := dataOf(f, fmt.Sprintf("/dir/%02d", n))
		if through(t, proxy, f.repo.URL+"/"+name) == nil {
			t.Fatal("squid gives nothing")
		}
		damaged[name] = true
	}
	f.repo.Fault("data/", nil)
	poisoned := 0
	for name := range damaged {
		if string(through(t, proxy, f.repo.URL+"/"+name)) != string(f.repo.Get(name)) {
			poisoned++
		}
	}
	if poisoned == 0 {
		t.Fatal("squid kept no damaged copy, so nothing is tested")
	}
	f.good("through a poisoned proxy")
	for name := range damaged {
		if string(through(t, proxy, f.repo.URL+"/"+name)) != string(f.repo.Get(name)) {
			t.Errorf("squid still holds a damaged %s", name)
		}
	}
}

func startSquid(t *testing.T, path string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir, err := os.MkdirTemp("/tmp", "squid-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o777)
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := filepath.Join(dir, "squid.conf")
	text := "http_port " + addr + "\nhttp_access allow all\ncache_mem 16 MB\nmaximum_object_size_in_memory 1 MB\n" +
		"pid_filename " + dir + "/pid\naccess_log none\ncache_log " + dir + "/log\ncoredump_dir " + dir +
		"\nshutdown_lifetime 0 seconds\nvisible_hostname test\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-N", "-f", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer timer.Stop()
		cmd.Wait()
	})
	for range 300 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return "http://" + addr
		}
		time.Sleep(100 * time.Millisecond)
	}
	log, _ := os.ReadFile(dir + "/log")
	t.Fatalf("squid does not listen:\n%s", log)
	return ""
}
