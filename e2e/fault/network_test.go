package fault_test

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
)

func networkFaults() []fault {
	const (
		network = `rootstock_fetch_failures_total{outcome="network"}`
		slow    = `rootstock_fetch_failures_total{outcome="timeout"}`
		status  = `rootstock_fetch_failures_total{outcome="status"}`
		corrupt = `rootstock_fetch_failures_total{outcome="corrupt"}`
		missing = `rootstock_fetch_failures_total{outcome="missing"}`
	)
	return []fault{
		{"server dead, another is there", "read from the next server", network, func(t *testing.T, f *fixture) {
			f.servers(deadAddress(t), f.mirror())
			f.start()
			f.good("one server dead")
		}},
		{"all servers dead", "what is cached reads, the rest is EIO in bounded time; the last revision stays", "rootstock_fuse_failures_total", func(t *testing.T, f *fixture) {
			f.start()
			keep := f.files["/dir/00"]
			if b, err := f.read("/dir/00"); err != nil || string(b) != string(keep) {
				t.Fatal(err)
			}
			f.repo.Fault("", hangUp)
			if failed := f.neverWrong("all dead"); failed != fileCount-1 {
				t.Errorf("%d of %d failed", failed, fileCount)
			}
			if f.refresh() == "" || f.metric("rootstock_repository_offline") != 1 {
				t.Error("not said to be offline")
			}
			f.repo.Fault("", nil)
			f.clock.add(3600e9)
			f.good("servers back")
		}},
		{"server accepts and says nothing", "read from the next server after the time-out, then from that at once", slow, func(t *testing.T, f *fixture) {
			f.servers(f.repo.URL, f.mirror())
			f.start()
			f.repo.Fault("", hang)
			f.good("first server hangs")
			if n := f.metric(slow); n > 4 {
				t.Errorf("%v requests waited for the same server", n)
			}
		}},
		{"server stalls in the middle of a body", "read from the next server", slow, func(t *testing.T, f *fixture) {
			f.servers(f.repo.URL, f.mirror())
			f.start()
			f.repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
				b := f.repo.Get(strings.TrimPrefix(r.URL.Path, "/"))
				w.Header().Set("Content-Length", strconv.Itoa(len(b)))
				w.Write(b[:len(b)/2])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			f.good("first server stalls")
		}},
		{"server breaks off in the middle of a body", "read from the next server", network, func(t *testing.T, f *fixture) {
			f.servers(f.repo.URL, f.mirror())
			f.start()
			f.repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
				b := f.repo.Get(strings.TrimPrefix(r.URL.Path, "/"))
				w.Header().Set("Content-Length", strconv.Itoa(len(b)))
				w.Write(b[:len(b)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			f.good("first server breaks off")
		}},
		{"server flaps: every other answer is 503", "tried again, or read from the next server", status, func(t *testing.T, f *fixture) {
			f.servers(f.repo.URL, f.mirror())
			f.start()
			var n atomic.Int64
			f.repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%2 == 1 {
					http.Error(w, "busy", http.StatusServiceUnavailable)
					return
				}
				w.Write(f.repo.Get(strings.TrimPrefix(r.URL.Path, "/")))
			})
			f.good("flapping")
		}},
		{"server sends wrong bytes", "asked again past caches, then read from the next server; nothing wrong is kept", corrupt, lying(func(b []byte) []byte {
			b[len(b)/2] ^= 1
			return b
		})},
		{"server sends too few bytes", "as wrong bytes", corrupt, lying(func(b []byte) []byte { return b[:len(b)-1] })},
		{"server sends too many bytes", "as wrong bytes", corrupt, lying(func(b []byte) []byte { return append(b, "more"...) })},
		{"server sends an error page with status 200", "as wrong bytes", corrupt, lying(func([]byte) []byte {
			return []byte("<html><body>It works!</body></html>")
		})},
		{"server sends without end", "cut off at what the object can have; read from the next server", corrupt, func(t *testing.T, f *fixture) {
			f.servers(f.repo.URL, f.mirror())
			f.start()
			var sent atomic.Int64
			f.repo.Fault("data/", func(w http.ResponseWriter, _ *http.Request) {
				n, _ := io.Copy(w, io.LimitReader(zeroes{}, 1<<30))
				sent.Add(n)
			})
			f.good("endless")
			if n := sent.Load(); n > fileCount*16<<20 {
				t.Errorf("%d bytes were taken", n)
			}
		}},
		{"all servers send wrong bytes", "EIO, never the wrong bytes; nothing is cached", "rootstock_fuse_failures_total", func(t *testing.T, f *fixture) {
			f.start()
			lookInto(t, f)
			f.repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
				b := append([]byte(nil), f.repo.Get(strings.TrimPrefix(r.URL.Path, "/"))...)
				b[0] ^= 0x80
				w.Write(b)
			})
			// The one that was read before is open, and right.
			if failed := f.neverWrong("all lie"); failed != fileCount-1 {
				t.Errorf("%d of %d failed", failed, fileCount)
			}
			f.repo.Fault("data/", nil)
			f.good("honest again")
		}},
		{"404 for one object", "read from a server that has it; where none has, EIO and never ENOENT", missing, func(t *testing.T, f *fixture) {
			mirror := f.mirror()
			f.servers(f.repo.URL, mirror)
			f.start()
			lookInto(t, f)
			gone := dataOf(f, "/dir/03")
			f.repo.Fault(gone, http.NotFound)
			if got, err := f.read("/dir/03"); err != nil || string(got) != string(f.files["/dir/03"]) {
				t.Errorf("one server lacks it: %v", err)
			}
			gone = dataOf(f, "/dir/04")
			f.repo.Remove(gone)
			if _, err := f.read("/dir/04"); !isIO(err) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("no server has it: %v", err)
			}
			if _, err := f.read("/dir/05"); err != nil {
				t.Errorf("its neighbour: %v", err)
			}
		}},
		{"500 for all", "what is cached reads, the rest is EIO; the last revision stays", status, func(t *testing.T, f *fixture) {
			f.start()
			if _, err := f.read("/dir/00"); err != nil {
				t.Fatal(err)
			}
			f.repo.Fault("", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })
			if failed := f.neverWrong("500"); failed != fileCount-1 {
				t.Errorf("%d of %d failed", failed, fileCount)
			}
			if f.refresh() == "" {
				t.Error("a refresh went well")
			}
		}},
		{"name of the server does not resolve", "read from the next server", network, func(t *testing.T, f *fixture) {
			f.servers("http://stratum0.invalid/repo", f.mirror())
			f.start()
			f.good("no such name")
		}},
		{"restart while no server answers", "mounted from the last verified revision; what is cached reads", "rootstock_repository_offline", func(t *testing.T, f *fixture) {
			f.start()
			f.good("first start")
			f.stop()
			f.repo.Fault("", hangUp)
			f.start()
			f.good("offline start")
		}},
		{"500 readers at once", "each content is fetched once", "rootstock_fetch_requests_total", func(t *testing.T, f *fixture) {
			f.start()
			ended := make(chan error, 500)
			for n := range 500 {
				go func() {
					path := "/dir/" + []string{"00", "01", "02", "03"}[n%4]
					b, err := f.read(path)
					if err == nil && string(b) != string(f.files[path]) {
						err = errors.New("wrong bytes")
					}
					ended <- err
				}()
			}
			for range 500 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			for _, path := range []string{"/dir/00", "/dir/01", "/dir/02", "/dir/03"} {
				if n := f.repo.Hits(dataOf(f, path)); n != 1 {
					t.Errorf("%s was fetched %d times", path, n)
				}
			}
		}},
		{"reader interrupted while it waits for a server", "it ends at once; others go on", "rootstock_fuse_waiting_requests_total", interrupted},
		{"proxy dead", "the next group of proxies is used, and the dead one rests", network, func(t *testing.T, f *fixture) {
			f.o.Repositories[0].Proxies = deadAddress(t) + ";DIRECT"
			f.start()
			f.good("proxy dead")
			if n := f.metric("rootstock_fetch_proxies_resting"); n != 1 {
				t.Errorf("%v proxies rest", n)
			}
		}},
		{"proxy holds poisoned copies (squid)", "asked again past the proxy's cache; nothing wrong is served", corrupt, poisonedProxy},
	}
}

// lying is a first server whose objects are altered.
func lying(alter func([]byte) []byte) func(*testing.T, *fixture) {
	return func(t *testing.T, f *fixture) {
		f.servers(f.repo.URL, f.mirror())
		f.start()
		f.repo.Fault("data/", func(w http.ResponseWriter, r *http.Request) {
			b := f.repo.Get(strings.TrimPrefix(r.URL.Path, "/"))
			w.Write(alter(append([]byte(nil), b...)))
		})
		f.good("first server lies")
	}
}

// lookInto has the nested catalog loaded before anything breaks.
func lookInto(t *testing.T, f *fixture) {
	t.Helper()
	if _, err := f.read("/dir/23"); err != nil {
		t.Fatal(err)
	}
	f.evict(1)
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// dataOf is the name of the object that holds a file.
func dataOf(f *fixture, path string) string {
	f.t.Helper()
	stored := f.stored(f.files[path])
	return object.Path(object.SHAKE128.Sum(stored), object.Bulk)
}
