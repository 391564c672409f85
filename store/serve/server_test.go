package serve_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
	"github.com/rootstock-cf/rootstock/store/serve"
)

// start runs a server; stop tells it to stop and returns what Serve did.
func start(t testing.TB, h http.Handler, grace time.Duration) (base string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s := &serve.Server{Handler: h, Log: quiet(), Grace: grace}
	go func() { ended <- s.Serve(ctx, l) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { stop() })
	return "http://" + l.Addr().String(), stop
}

func TestConcurrentClients(t *testing.T) {
	_, s := fixture(t)
	contents := make(map[string][]byte)
	for i := range 20 {
		b := bytes.Repeat([]byte{byte(i)}, 10_000*i+1)
		name := object.Path(object.SHAKE128.Sum(b), object.Bulk)
		contents[name] = b
		if err := s.Put(t.Context(), name, b); err != nil {
			t.Fatal(err)
		}
	}
	base, stop := start(t, serve.Handler(map[string]store.Getter{fqrn: s}, quiet()), time.Minute)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for name, want := range contents {
				resp, err := client.Get(base + "/" + name)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
					t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(want), err)
				}
			}
		})
	}
	// Meanwhile a publisher publishes.
	group.Go(func() {
		old := []byte("manifest")
		for i := range 10 {
			next := []byte(fmt.Sprintf("manifest %d", i))
			if err := s.Swap(t.Context(), ".cvmfspublished", old, next); err != nil {
				t.Error(err)
			}
			old = next
		}
	})
	group.Wait()
	if a := do(t, "GET", base+"/.cvmfspublished"); a.body != "manifest 9" {
		t.Errorf("in the end: %q", a.body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// gate is a handler that is under way until it is let go.
type gate struct{ entered, leave chan struct{} }

func (g gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	close(g.entered)
	<-g.leave
	fmt.Fprint(w, "whole")
}

func TestShutdownWaits(t *testing.T) {
	g := gate{make(chan struct{}), make(chan struct{})}
	base, stop := start(t, g, time.Minute)
	got := make(chan string)
	go func() { got <- fetch(base) }()
	<-g.entered
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	// Once nobody is accepted any more, the one inside still gets all of it.
	for {
		c, err := net.Dial("tcp", base[len("http://"):])
		if err != nil {
			break
		}
		c.Close()
	}
	select {
	case err := <-stopped:
		t.Errorf("stopped with a response under way: %v", err)
	default:
	}
	close(g.leave)
	if body := <-got; body != "whole" {
		t.Errorf("the response under way was %q", body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownDoesNotWaitForever(t *testing.T) {
	g := gate{make(chan struct{}), make(chan struct{})}
	defer close(g.leave)
	base, stop := start(t, g, time.Millisecond)
	got := make(chan string)
	go func() { got <- fetch(base) }()
	<-g.entered
	if err := stop(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if body := <-got; body == "whole" {
		t.Error("a response that was cut off is whole")
	}
}

func fetch(address string) string {
	resp, err := http.Get(address)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestServeReportsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := &serve.Server{Handler: http.NotFoundHandler(), Log: quiet()}
	if err := s.Serve(t.Context(), l); err == nil {
		t.Error("served on a closed listener")
	}
}

// A request whose header never ends is not held on to: it is too large.
func TestEndlessHeader(t *testing.T) {
	_, s := fixture(t)
	base, _ := start(t, serve.Handler(map[string]store.Getter{fqrn: s}, quiet()), time.Minute)
	r, err := http.NewRequest("GET", base+"/.cvmfspublished", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X", string(bytes.Repeat([]byte("x"), 64<<10)))
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s", resp.Status)
		}
	}
}

// What stock CernVM-FS wrote is served byte for byte, file by file.
func TestGolden(t *testing.T) {
	dir := os.Getenv("ROOTSTOCK_GOLDEN")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "golden")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED, no stock repository is served: set ROOTSTOCK_GOLDEN to the golden repositories (%v)", err)
	}
	repositories := make(map[string]store.Getter)
	for _, name := range []string{"basic", "shake128", "tagsgc"} {
		s, err := local.Open(filepath.Join(dir, name, "repo"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		repositories[name+".golden.cf"] = s
	}
	base, _ := start(t, serve.Handler(repositories, quiet()), time.Minute)
	for fqrn, from := range repositories {
		files := 0
		err := from.(store.Lister).List(t.Context(), "", func(name string, size int64) error {
			files++
			r, err := from.Get(t.Context(), name)
			if err != nil {
				return err
			}
			defer r.Close()
			want, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			if a := do(t, "GET", base+"/cvmfs/"+fqrn+"/"+name); a.StatusCode != 200 || a.body != string(want) || a.ContentLength != size {
				t.Errorf("%s/%s: %s, %d bytes", fqrn, name, a.Status, len(a.body))
			}
			return nil
		})
		if err != nil || files < 10 {
			t.Errorf("%s: %d files, %v", fqrn, files, err)
		}
	}
}

func benchmark(b *testing.B, size int) {
	s, err := local.Create(filepath.Join(b.TempDir(), "repo"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	content := make([]byte, size)
	name := object.Path(object.SHAKE128.Sum(content), object.Bulk)
	if err := s.Put(b.Context(), name, content); err != nil {
		b.Fatal(err)
	}
	base, _ := start(b, serve.Handler(map[string]store.Getter{fqrn: s}, quiet()), time.Minute)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 64<<10)
		for pb.Next() {
			resp, err := client.Get(base + "/" + name)
			if err != nil {
				b.Error(err)
				return
			}
			n, err := io.CopyBuffer(onlyWriter{io.Discard}, resp.Body, buf)
			resp.Body.Close()
			if err != nil || n != int64(size) {
				b.Errorf("%d bytes, %v", n, err)
				return
			}
		}
	})
}

// onlyWriter hides io.Discard's ReaderFrom, whose buffer is small.
type onlyWriter struct{ io.Writer }

func BenchmarkSmall(b *testing.B) { benchmark(b, 11<<10) }
func BenchmarkLarge(b *testing.B) { benchmark(b, 16<<20) }
