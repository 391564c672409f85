package fault_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// link is a network namespace and a wire to it that can be slow, lossy or cut,
// for the kernels' real TCP on both sides. The wire is two TUN devices with
// this process between them: netem does the same, but not every kernel has it.
// All of it goes with the process, however that ends.
type link struct {
	here, there string // addresses of the two ends
	enter       chan func()

	delay atomic.Int64 // one way, nanoseconds
	loss  atomic.Int64 // of a thousand packets, each way
	rate  atomic.Int64 // bytes per second each way; 0 for no bound
	cut   atomic.Bool
}

var links atomic.Int32

// newLink makes a namespace with addresses out of those for benchmarks of
// networks (RFC 2544), which nobody routes.
func newLink(t *testing.T) *link {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: network namespaces take root, so no network fault is tested")
	}
	n := int(links.Add(1)) + os.Getpid()%4000*16
	base := fmt.Sprintf("198.%d.%d.", 18+n>>14&1, n>>6&255)
	first := n & 63 * 4
	l := &link{here: base + fmt.Sprint(first+1), there: base + fmt.Sprint(first+2), enter: make(chan func())}
	near := tun(t, fmt.Sprintf("rsn%d", n), l.here)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes, and its namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		for f := range l.enter {
			f()
		}
	}()
	t.Cleanup(func() { close(l.enter) })
	var far *os.File
	l.inside(func() {
		run(t, "ip", "link", "set", "lo", "up")
		far = tun(t, fmt.Sprintf("rsf%d", n), l.there)
	})
	if far == nil {
		t.Fatal("no device in the namespace")
	}
	go l.carry(near, far)
	go l.carry(far, near)
	return l
}

// inside runs f on a thread in the namespace: what is bound there stays there,
// and programs that are started are in it.
func (l *link) inside(f func()) {
	done := make(chan struct{})
	l.enter <- func() { defer close(done); f() }
	<-done
}

// carry is one direction of the wire.
func (l *link) carry(from, to *os.File) {
	var free time.Time // when the wire has sent all it was given
	for {
		p := make([]byte, 2048)
		n, err := from.Read(p)
		if err != nil {
			return
		}
		if l.cut.Load() || rand.Int64N(1000) < l.loss.Load() {
			continue
		}
		now := time.Now()
		at := now
		if rate := l.rate.Load(); rate > 0 {
			if free.Before(now) {
				free = now
			}
			if free.Sub(now) > 300*time.Millisecond {
				continue // its queue is full
			}
			free = free.Add(time.Duration(int64(n) * int64(time.Second) / rate))
			at = free
		}
		at = at.Add(time.Duration(l.delay.Load()))
		if !at.After(now) {
			to.Write(p[:n]) //nolint:errcheck // lost, as packets are
			continue
		}
		time.AfterFunc(at.Sub(now), func() { to.Write(p[:n]) }) //nolint:errcheck // see above
	}
}

// tun makes a device that ends with the test, in the thread's namespace.
func tun(t *testing.T, name, address string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Errorf("TUN device: %v", err)
		return nil
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		t.Errorf("TUN device %s: %v", name, err)
		unix.Close(fd)
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { f.Close() })
	run(t, "ip", "addr", "add", address+"/30", "dev", name)
	run(t, "ip", "link", "set", name, "mtu", "1500", "up")
	return f
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// serve has the repository served inside, by this process.
func (l *link) serve(f *fixture) string { return l.serveAt(f, l.there) }

// serveAt has it served at one of the two ends.
func (l *link) serveAt(f *fixture, address string) string {
	f.t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := f.repo.Get(strings.TrimPrefix(r.URL.Path, "/"))
		if b == nil {
			http.NotFound(w, r)
			return
		}
		w.Write(b)
	}))
	s.Listener.Close()
	listen := func() {
		var err error
		if s.Listener, err = net.Listen("tcp", address+":0"); err != nil {
			f.t.Errorf("listen at %s: %v", address, err)
		}
	}
	if address == l.here {
		listen()
	} else {
		l.inside(listen)
	}
	if f.t.Failed() {
		f.t.FailNow()
	}
	s.Start()
	f.t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

// resolver asks a name server inside, for which every name has one address.
func (l *link) resolver(t *testing.T, address string) *net.Resolver {
	t.Helper()
	var conn net.PacketConn
	l.inside(func() {
		var err error
		if conn, err = net.ListenPacket("udp", l.there+":0"); err != nil {
			t.Errorf("listen inside: %v", err)
		}
	})
	if conn == nil {
		t.FailNow()
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(dnsAnswer(buf[:n], net.ParseIP(address)), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// dnsAnswer is RFC 1035's answer to a question for addresses of IPv4; there are
// none of others.
func dnsAnswer(question []byte, ip net.IP) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	out := append([]byte(nil), question[:end+5]...)
	copy(out[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	if question[end+2] == 1 {
		out[7] = 1
		out = append(append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4), ip.To4()...)
	}
	return out
}

// nginx serves what the repository has now from files, inside.
func (l *link) nginx(f *fixture) string {
	f.t.Helper()
	dir := serverDir(f.t, "nginx")
	for _, name := range f.repo.Names("") {
		path := filepath.Join(dir, "www", name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, f.repo.Get(name), 0o644); err != nil {
			f.t.Fatal(err)
		}
	}
	conf := "daemon off; master_process off; pid " + dir + "/pid; error_log " + dir + "/log;\nevents {}\n" +
		"http { access_log off; client_body_temp_path " + dir + "/t1; proxy_temp_path " + dir + "/t2; fastcgi_temp_path " + dir + "/t3;" +
		" uwsgi_temp_path " + dir + "/t4; scgi_temp_path " + dir + "/t5;\nserver { listen " + l.there + ":8000; root " + dir + "/www; } }\n"
	l.start(f.t, dir, conf, ":8000", "nginx", "-c", dir+"/conf")
	return "http://" + l.there + ":8000"
}

// squid is a proxy inside.
func (l *link) squid(t *testing.T) string {
	t.Helper()
	dir := serverDir(t, "squid")
	conf := "http_port " + l.there + ":3128\nhttp_access allow all\ncache_mem 16 MB\nmaximum_object_size_in_memory 1 MB\n" +
		"pid_filename " + dir + "/pid\naccess_log none\ncache_log " + dir + "/log\ncoredump_dir " + dir +
		"\nshutdown_lifetime 0 seconds\nvisible_hostname test\n"
	l.start(t, dir, conf, ":3128", "squid", "-N", "-f", dir+"/conf")
	return "http://" + l.there + ":3128"
}

// serverDir is a directory for a server, which may give up root.
func serverDir(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", name+"-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o777)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start starts a server inside and waits until it listens; it ends with the test.
func (l *link) start(t *testing.T, dir, conf, port string, args ...string) {
	t.Helper()
	if err := os.WriteFile(dir+"/conf", []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		path = "/usr/sbin/" + args[0]
	}
	cmd := exec.Command(path, args[1:]...)
	l.inside(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer timer.Stop()
		cmd.Wait()
	})
	for range 300 {
		if c, err := net.DialTimeout("tcp", l.there+port, time.Second); err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, _ := os.ReadFile(dir + "/log")
	t.Fatalf("%s does not listen:\n%s", args[0], log)
}
