package fault_test

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/internal/teststratum"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// full has the survival tests count as far as docs/faults.md says.
var full = flag.Bool("full", false, "kill and upgrade as often as docs/faults.md says")

func times(few, many int) int {
	if *full {
		return many
	}
	return few
}

var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rootstock-fault-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "../../cmd/rootstock-cell")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir + "/rootstock-cell", nil
})

// rig is a repository, a holder and a worker that a supervisor starts again
// whenever it ends.
type rig struct {
	t       *testing.T
	dir     string
	binary  string // the worker's, its own copy
	args    []string
	stratum *teststratum.Stratum
	asked   chan struct{} // a content is being fetched, slowly
	holder  *exec.Cmd

	mu      sync.Mutex
	worker  *exec.Cmd
	starts  int
	down    bool          // the supervisor starts nothing
	running chan struct{} // closed when the supervisor has ended
	log     *os.File
	config  map[string]any // what differs from the usual
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const (
	repoName = "survive.example.org"
	warmEach = 24
)

// newRig publishes warm files, a program, a large file, and as many cold files of
// each kind as will be fetched while a worker dies.
func newRig(t *testing.T, cold int, args ...string) *rig {
	t.Helper()
	return newConfiguredRig(t, cold, nil, args...)
}

func newConfiguredRig(t *testing.T, cold int, config map[string]any, args ...string) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting takes root, so no death is survived")
	}
	built, err := program()
	must(t, err)
	r := &rig{t: t, dir: t.TempDir(), args: args, config: config, asked: make(chan struct{}, 1), running: make(chan struct{})}
	r.binary = r.dir + "/rootstock-cell"
	must(t, os.Link(built, r.binary))
	r.stratum = teststratum.New(t, repoName)
	echo, err := os.ReadFile("/bin/echo")
	must(t, err)
	files := map[string][]byte{"bin/echo": echo, "mapped/large": content("mapped/large")}
	for n := range warmEach {
		path := fmt.Sprintf("warm/%d", n)
		files[path] = content(path)
	}
	for n := range cold {
		for _, kind := range []string{"container", "mount"} {
			files[coldPath(kind, n)] = content(coldPath(kind, n))
		}
	}
	r.stratum.Rootfs("demo", "1", writeTar(t, r.dir+"/demo.tar", files))
	must(t, os.MkdirAll(r.dir+"/mnt", 0o755))
	r.configure()
	r.log, err = os.Create(r.dir + "/log")
	must(t, err)
	t.Cleanup(r.end)
	r.startHolder()
	go r.supervise()
	r.status()
	return r
}

// writeTar writes a tar of files, all of them executable.
func writeTar(t *testing.T, path string, files map[string][]byte) string {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	w := tar.NewWriter(f)
	for name, data := range files {
		must(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))}))
		_, err := w.Write(data)
		must(t, err)
	}
	must(t, w.Close())
	must(t, f.Close())
	return path
}

// slow is the repository's server: a content takes some time, in which a worker
// can die.
func (r *rig) slow() string {
	to, err := url.Parse(r.stratum.URL[:strings.Index(r.stratum.URL, "/cvmfs/")])
	must(r.t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.Contains(q.URL.Path, "/data/") {
			select {
			case r.asked <- struct{}{}:
			default:
			}
			time.Sleep(20 * time.Millisecond)
		}
		proxy.ServeHTTP(w, q)
	}))
	r.t.Cleanup(s.Close)
	return s.URL + "/cvmfs/" + repoName
}

func (r *rig) configure() {
	var keys []string
	for i, k := range r.stratum.Keys() {
		name := fmt.Sprintf("%s/%d.pub", r.dir, i)
		must(r.t, writePublicKey(name, k))
		keys = append(keys, name)
	}
	all := map[string]any{
		"cache": r.dir + "/cache", "socket": r.dir + "/cell.sock", "holder": r.dir + "/holder.sock", "metrics": "off", "scrub": 0,
		"repositories": []map[string]any{{"name": repoName, "servers": []string{r.slow()}, "keys": keys, "mountpoint": r.dir + "/mnt", "refresh": "1h"}},
	}
	maps.Copy(all, r.config)
	raw, err := json.Marshal(all)
	must(r.t, err)
	must(r.t, os.WriteFile(r.dir+"/cell.json", raw, 0o600))
}

func (r *rig) startHolder() {
	r.t.Helper()
	r.holder = exec.Command(r.binary, "hold", "--socket", r.dir+"/holder.sock")
	r.holder.Stderr = r.log
	out, err := r.holder.StdoutPipe()
	must(r.t, err)
	must(r.t, r.holder.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		r.t.Fatalf("holder said %q, %v", line, err)
	}
}

// supervise starts the worker again and again, as systemd would.
func (r *rig) supervise() {
	defer close(r.running)
	for {
		r.mu.Lock()
		if r.down {
			r.mu.Unlock()
			return
		}
		cmd := exec.Command(r.binary, append([]string{"run", "--config", r.dir + "/cell.json"}, r.args...)...)
		cmd.Stderr = r.log
		err := cmd.Start()
		if err == nil {
			r.worker = cmd
			r.starts++
		}
		r.mu.Unlock()
		if err != nil {
			fmt.Fprintln(r.log, err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		cmd.Wait()
	}
}

// kill is a SIGKILL of the worker.
func (r *rig) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.worker.Process.Kill()
}

// halt ends the supervisor and the worker.
func (r *rig) halt(sig os.Signal) {
	r.mu.Lock()
	r.down = true
	if r.worker != nil {
		r.worker.Process.Signal(sig)
	}
	r.mu.Unlock()
	<-r.running
}

// started is how often the worker was started so far.
func (r *rig) started() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starts
}

// resume starts the supervisor again.
func (r *rig) resume() {
	r.down, r.running = false, make(chan struct{})
	go r.supervise()
	r.status()
}

// end takes everything away; a holder that ends well unmounts what is its own.
func (r *rig) end() {
	r.halt(unix.SIGTERM)
	if r.holder.ProcessState == nil {
		r.holder.Process.Signal(unix.SIGTERM)
		r.holder.Wait()
	}
	text, _ := os.ReadFile("/proc/self/mounts")
	lines := strings.Split(string(text), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 1 && strings.HasPrefix(f[1], r.dir+"/") {
			unix.Unmount(f[1], unix.MNT_DETACH)
		}
	}
	r.log.Close()
	if r.t.Failed() {
		said, _ := os.ReadFile(r.dir + "/log")
		r.t.Logf("the programs said\n%s", said[max(0, len(said)-4000):])
	}
}

func (r *rig) client() *control.Client {
	return &control.Client{Socket: r.dir + "/cell.sock", Timeout: 30 * time.Second}
}

// status waits until the worker answers.
func (r *rig) status() (s cell.Status) {
	r.t.Helper()
	for range 6000 {
		raw, err := r.client().Status(r.t.Context())
		if err == nil {
			must(r.t, json.Unmarshal(raw, &s))
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatal("the worker does not answer")
	return s
}

// container mounts the overlay of a container of that handle.
func (r *rig) container(handle string) (root string) {
	r.t.Helper()
	return r.containerOf(handle, "rootfs/demo@1", nil)
}

// containerOf mounts one of a reference whose ids are mapped, unless ids is nil.
func (r *rig) containerOf(handle, what string, ids []overlay.IDRange) (root string) {
	r.t.Helper()
	ref, err := reference.Parse("cvmfs://" + repoName + "/" + what)
	must(r.t, err)
	l, err := r.client().Lower(r.t.Context(), control.LowerRequest{Ref: ref, Handle: handle, UIDMaps: ids, GIDMaps: ids})
	must(r.t, err)
	if ids != nil && len(l.Mapped) == 0 {
		r.t.Fatal("nobody maps the ids of this container")
	}
	if ids != nil {
		l.Lower = l.Mapped
	}
	base := filepath.Join(r.dir, "containers", handle)
	for _, d := range []string{"upper", "work", "root"} {
		must(r.t, os.MkdirAll(filepath.Join(base, d), 0o755))
	}
	root = base + "/root"
	must(r.t, overlay.Mount(overlay.Layers{Lower: l.Lower, Data: l.Data, Options: l.Options, Upper: base + "/upper", Work: base + "/work"}, root))
	return root
}

func (r *rig) tree() string { return r.dir + "/mnt/rootfs/demo/1" }

// users are processes that use both tiers.
type users struct {
	r   *rig
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (r *rig) use(roots ...string) *users {
	r.t.Helper()
	l := load{Roots: roots, Program: "bin/echo", Dir: "warm"}
	for n := range warmEach {
		l.Warm = append(l.Warm, fmt.Sprintf("warm/%d", n))
	}
	raw, err := json.Marshal(l)
	must(r.t, err)
	u := &users{r: r, cmd: exec.Command(os.Args[0])}
	u.cmd.Env = append(os.Environ(), loadConfig+"="+string(raw))
	u.cmd.Stderr = os.Stderr
	u.in, err = u.cmd.StdinPipe()
	must(r.t, err)
	out, err := u.cmd.StdoutPipe()
	must(r.t, err)
	u.out = bufio.NewReader(out)
	must(r.t, u.cmd.Start())
	r.t.Cleanup(func() {
		if u.cmd.ProcessState == nil { // it hangs: what it waits for goes with the holder
			u.cmd.Process.Kill()
			r.end()
			u.cmd.Wait()
		}
	})
	u.line("ready")
	return u
}

// line waits for a line of the users.
func (u *users) line(want string) {
	u.r.t.Helper()
	stuck := time.AfterFunc(2*time.Minute, func() { u.cmd.Process.Kill() })
	defer stuck.Stop()
	if got, err := u.out.ReadString('\n'); err != nil || got != want+"\n" {
		u.r.t.Fatalf("users said %q, %v: they hang", got, err)
	}
}

// fetch begins reads of files that are not cached and returns once the server is
// asked for one; the function it returns waits for the reads.
func (u *users) fetch(paths ...string) (wait func()) {
	u.r.t.Helper()
	select {
	case <-u.r.asked:
	default:
	}
	fmt.Fprintln(u.in, "read "+strings.Join(paths, " "))
	select {
	case <-u.r.asked:
	case <-time.After(2 * time.Minute):
		u.r.t.Fatal("nothing was fetched")
	}
	return func() { u.line("read") }
}

// stop ends the users, who must have met no error.
func (u *users) stop() used {
	u.r.t.Helper()
	u.in.Close()
	var got used
	stuck := time.AfterFunc(2*time.Minute, func() { u.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := json.NewDecoder(u.out).Decode(&got); err != nil {
		u.r.t.Fatalf("users hang: %v", err)
	}
	u.cmd.Wait()
	for _, e := range got.Errors {
		u.r.t.Error(e)
	}
	return got
}
