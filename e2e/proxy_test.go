package e2e_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
	"github.com/rootstock-cf/rootstock/store/serve"
)

// origin is a stratum 0 whose requests are counted, and which can be made to lie
// about one object or to go away.
type origin struct {
	*site
	server *httptest.Server

	mu     sync.Mutex
	served map[string]int // by path, with status 200
	past   map[string]int // of all requests, those that asked past caches
	poison string         // path that is answered with something else
	brief  bool           // what is poisoned may be kept for a second only
	down   bool
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	o := &origin{site: newSite(t), served: map[string]int{}, past: map[string]int{}}
	writeTree(t, filepath.Join(o.dir, "tree.tar"))
	o.publish(t, "rootfs", "tree", "1", filepath.Join(o.dir, "tree.tar"))
	s, err := local.Open(o.store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	handler := serve.Handler(map[string]store.Getter{siteName: s}, slog.New(slog.DiscardHandler))
	o.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		poison, brief, down := o.poison != "" && strings.HasSuffix(r.URL.Path, o.poison), o.brief, o.down
		if r.Header.Get("Pragma") != "" {
			o.past[strings.TrimPrefix(r.URL.Path, "/cvmfs/"+siteName+"/")]++
		}
		o.mu.Unlock()
		switch {
		case down:
			panic(http.ErrAbortHandler)
		case poison:
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			if brief {
				w.Header().Set("Cache-Control", "public, max-age=1")
			}
			w.Header().Set("Etag", `"`+strings.Replace(o.poison[len("data/"):], "/", "", 1)+`"`)
			fmt.Fprint(w, "something else")
		default:
			n := &noted{ResponseWriter: w, status: 200}
			handler.ServeHTTP(n, r)
			if n.status == 200 {
				o.mu.Lock()
				o.served[strings.TrimPrefix(r.URL.Path, "/cvmfs/"+siteName+"/")]++
				o.mu.Unlock()
			}
		}
	}))
	t.Cleanup(o.server.Close)
	return o
}

// writeTree makes a tree of 60 files that are all different, 1.2 MB.
func writeTree(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	random := rand.NewChaCha8([32]byte{})
	for i := range 60 {
		content := make([]byte, 1+i*700)
		random.Read(content)
		err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("dir%d/file%d", i%7, i), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))})
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// noted hides sendfile, which does not matter here.
type noted struct {
	http.ResponseWriter
	status int
}

func (n *noted) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func (o *origin) set(poison string, down bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.poison, o.down = poison, down
}

func (o *origin) askedPast(name string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.past[name]
}

// objects is how often each object was served.
func (o *origin) objects() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := maps.Clone(o.served)
	maps.DeleteFunc(all, func(name string, _ int) bool { return !store.IsObject(name) })
	return all
}

// between starts a caching proxy of the given kind and returns how clients get
// through it to the origin.
func (o *origin) between(t *testing.T, kind string) fetch.Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	l.Close()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil { // both give up being root
		t.Fatal(err)
	}
	for d := filepath.Dir(dir); d != "/"; d = filepath.Dir(d) {
		if st, err := os.Stat(d); err == nil && st.Mode()&0o001 == 0 {
			if err := os.Chmod(d, st.Mode()|0o011); err != nil {
				t.Fatal(err)
			}
		}
	}
	text, err := os.ReadFile("testdata/proxy/" + kind + ".conf")
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.NewReplacer("@PORT@", port, "@DIR@", dir, "@ORIGIN@", o.server.Listener.Addr().String()).Replace(string(text)))
	conf := filepath.Join(dir, kind+".conf")
	if err := os.WriteFile(conf, text, 0o644); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath(kind)
	if err != nil {
		program = "/usr/sbin/" + kind
	}
	args := map[string][]string{"squid": {"-N", "-f", conf}, "nginx": {"-c", conf}}[kind]
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s, the real one: %v", kind, err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer timer.Stop()
		cmd.Wait()
	})
	for deadline := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "cache.log"))
			t.Fatalf("%s does not listen: %v\n%s", kind, err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if kind == "squid" {
		return fetch.Config{Servers: []string{o.server.URL + "/cvmfs/" + siteName}, Proxies: "http://" + address, Timeout: patience}
	}
	return fetch.Config{Servers: []string{"http://" + address + "/cvmfs/" + siteName}, TimeoutDirect: patience}
}

// cell is a client with an empty cache.
func (o *origin) cell(t *testing.T, through fetch.Config) *client.Repository {
	t.Helper()
	f, err := fetch.New(through)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	dir, err := os.MkdirTemp("/dev/shm", "rootstock-cell-") // twenty cells do not share a disk
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := cache.Open(dir, cache.Options{SyncInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := manifest.LoadPublicKeys(manifest.PublicKeyFile(o.keys, siteName))
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.Open(t.Context(), client.Options{Name: siteName, Fetcher: f, Trust: manifest.Trust{Keys: keys}, Cache: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		c.Close()
	})
	return r
}

// readTree reads every file and returns how many there are.
func readTree(r *client.Repository) (files int, err error) {
	tree := r.FS()
	err = fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		_, err = fs.ReadFile(tree, name)
		return err
	})
	return files, err
}

// Twenty cells with empty caches read one tree at the same time, and the origin
// serves each object once.
func TestOriginServesOnce(t *testing.T) {
	for _, kind := range []string{"squid", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			through := o.between(t, kind)
			var cells []*client.Repository
			for range 20 {
				cells = append(cells, o.cell(t, through))
			}
			var group sync.WaitGroup
			for _, r := range cells {
				group.Go(func() {
					if files, err := readTree(r); err != nil || files < 60 {
						t.Errorf("%d files, %v", files, err)
					}
				})
			}
			group.Wait()
			served := o.objects()
			for name, n := range served {
				if n != 1 {
					t.Errorf("%s was served %d times", name, n)
				}
			}
			if len(served) < 60 {
				t.Errorf("only %d objects were served: %v", len(served), served)
			}
			// What was read once is there for ever, the origin or not.
			o.set("", true)
			f, err := fetch.New(through)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for name := range served {
				h, typ, _ := object.ParsePath(name)
				if err := fetch.Object(t.Context(), f, typ, codec.Expect{Hash: h, Compression: object.None, Size: -1, Limit: 1 << 30}, new(sink)); err != nil {
					t.Errorf("without the origin: %v", err)
				}
			}
		})
	}
}

type sink struct{}

func (*sink) Write(p []byte) (int, error) { return len(p), nil }
func (*sink) Reset() error                { return nil }

// A new revision is seen through caches long before their copy of the manifest
// would run out (61 seconds).
func TestManifestIsFresh(t *testing.T) {
	for _, kind := range []string{"squid", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			through := o.between(t, kind)
			r := o.cell(t, through)
			before := r.Status().Revision
			o.publish(t, "rootfs", "tree", "2", filepath.Join(o.dir, "tree.tar"))
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			for r.Status().Revision == before {
				if _, err := r.Refresh(ctx); err != nil {
					t.Fatalf("revision %d is still shown: %v", before, err)
				}
				time.Sleep(100 * time.Millisecond)
			}
			// A cell that starts now starts with it.
			if now := o.cell(t, through).Status().Revision; now != before+1 {
				t.Errorf("a new cell starts with revision %d, not %d", now, before+1)
			}
		})
	}
}

// A copy that went bad in a cache is found out by its hash, asked for past the
// cache, and good for the next one who asks.
func TestPoisonedCacheIsHealed(t *testing.T) {
	for _, kind := range []string{"squid", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			through := o.between(t, kind)
			if _, err := readTree(o.cell(t, fetch.Config{Servers: []string{o.server.URL + "/cvmfs/" + siteName}})); err != nil {
				t.Fatal(err)
			}
			name, read := o.poisoned(t, through)
			asked := o.objects()[name]
			for range 3 {
				if err := read(); err != nil {
					t.Errorf("poisoned: %v", err)
				}
			}
			if n := o.objects()[name] - asked; n != 1 {
				t.Errorf("healing took %d requests to the origin, not 1", n)
			}
		})
	}
}

// poisoned leaves a damaged copy of an object in the cache before an honest
// origin. read reads the object through the cache.
func (o *origin) poisoned(t *testing.T, through fetch.Config) (name string, read func() error) {
	t.Helper()
	f, err := fetch.New(through)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	for name := range o.objects() {
		h, typ, _ := object.ParsePath(name)
		if typ != object.Bulk {
			continue
		}
		read := func() error {
			return fetch.Object(t.Context(), f, typ, codec.Expect{Hash: h, Compression: object.None, Size: -1, Limit: 1 << 30}, new(sink))
		}
		o.set(name, false)
		if err := read(); !errors.Is(err, fetch.ErrCorrupt) {
			t.Fatalf("a lying origin: %v", err)
		}
		o.set("", false)
		return name, read
	}
	t.Fatal("no object to poison")
	return "", nil
}

// A damaged copy that has run out is replaced before anybody finds the damage: the
// cache asks for the object, not whether its copy is current, which the origin,
// who knows an object by its name, would confirm. That is why nginx.conf goes
// without proxy_cache_revalidate.
func TestDamageRunsOut(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	through := o.between(t, "nginx")
	if _, err := readTree(o.cell(t, fetch.Config{Servers: []string{o.server.URL + "/cvmfs/" + siteName}})); err != nil {
		t.Fatal(err)
	}
	o.mu.Lock()
	o.brief = true
	o.mu.Unlock()
	name, read := o.poisoned(t, through)
	past := o.askedPast(name)
	time.Sleep(2100 * time.Millisecond) // nginx counts whole seconds
	if err := read(); err != nil {
		t.Error(err)
	}
	if n := o.askedPast(name) - past; n != 0 {
		t.Errorf("the damage was found by a client, which asked past the cache %d times", n)
	}
}
