// Package teststratum makes a stratum 0 with the real publisher and serves it in
// this process, for tests of what cells do with published trees. Package
// testrepo is for tests that need a repository no publisher would make.
package teststratum

import (
	"archive/tar"
	"bytes"
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
	"github.com/rootstock-cf/rootstock/store/serve"
)

// Stratum is a repository and its server. Its methods fail the test themselves.
type Stratum struct {
	Name, URL string

	t        testing.TB
	p        *publisher.Publisher
	st       store.Store
	files    http.Handler
	master   *rsa.PrivateKey
	requests atomic.Int64
	fault    atomic.Pointer[http.HandlerFunc]
}

var keys sync.Map // *pair by name; keys take longer than all else

type pair struct {
	once   sync.Once
	keys   *manifest.Keys
	master *rsa.PrivateKey
	err    error
}

// New makes a repository of that name, whose files are compressed with zstd, and
// serves it until the test ends.
func New(t testing.TB, name string) *Stratum {
	t.Helper()
	made, _ := keys.LoadOrStore(name, &pair{})
	k, _ := made.(*pair)
	k.once.Do(func() { k.keys, k.master, k.err = manifest.GenerateKeys(name, manifest.KeyOptions{Bits: 2048}) })
	check(t, k.err)
	st, err := local.Create(filepath.Join(t.TempDir(), "stratum0"))
	check(t, err)
	o := publisher.Options{Store: st, Keys: k.keys, TempDir: t.TempDir()}
	check(t, publisher.Init(t.Context(), o, publisher.Settings{Compression: object.Zstd, Algorithm: object.SHAKE128}, k.master))
	s := &Stratum{Name: name, t: t, st: st, master: k.master}
	s.p, err = publisher.Open(t.Context(), o)
	check(t, err)
	s.files = serve.Handler(map[string]store.Getter{name: st}, nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if h := s.fault.Load(); h != nil {
			(*h)(w, r)
			return
		}
		s.Serve(w, r)
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL + "/cvmfs/" + name
	return s
}

// Keys are what a cell trusts.
func (s *Stratum) Keys() []*rsa.PublicKey { return []*rsa.PublicKey{&s.master.PublicKey} }

// Requests is how many were made so far.
func (s *Stratum) Requests() int64 { return s.requests.Load() }

// Fault answers all requests with h; nil ends it.
func (s *Stratum) Fault(h http.HandlerFunc) {
	if h == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&h)
}

// Serve answers a request as if there were no fault.
func (s *Stratum) Serve(w http.ResponseWriter, r *http.Request) { s.files.ServeHTTP(w, r) }

// Except is a fault of one object, named by its path in the store.
func (s *Stratum) Except(object string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, object) {
			h(w, r)
			return
		}
		s.Serve(w, r)
	}
}

// Object is the path in the store of the object that a file in one piece is
// stored as.
func (s *Stratum) Object(path string) string {
	s.t.Helper()
	x, err := publisher.Explain(s.t.Context(), s.st, s.t.TempDir(), path)
	check(s.t, err)
	return object.Path(x.Entry.Hash, object.Bulk)
}

// Profiles publishes startup profiles.
func (s *Stratum) Profiles(all ...profile.Document) {
	s.t.Helper()
	_, err := s.p.PublishProfiles(s.t.Context(), all, profile.MaxPacked)
	check(s.t, err)
}

// Rootfs publishes the tar file at path as rootfs/name@version.
func (s *Stratum) Rootfs(name, version, path string) *publisher.Result {
	s.t.Helper()
	src, err := source.OpenRootfs(s.t.Context(), path, source.Options{})
	check(s.t, err)
	defer src.Close()
	return s.publish(reference.Reference{Kind: reference.Rootfs, Name: name, Version: version}, src)
}

// Image publishes what source.OpenImage opens as an image of that name and tag.
func (s *Stratum) Image(name, tag, spec string) *publisher.Result {
	s.t.Helper()
	src, err := source.OpenImage(s.t.Context(), spec, source.Options{})
	check(s.t, err)
	defer src.Close()
	return s.publish(reference.Reference{Kind: reference.Images, Name: name, Version: tag}, src)
}

func (s *Stratum) publish(ref reference.Reference, src *source.Source) *publisher.Result {
	s.t.Helper()
	r, err := s.p.Publish(s.t.Context(), publisher.Job{Reference: ref, Source: src})
	check(s.t, err)
	return r
}

// Files publishes regular files, by their paths without leading slash, as
// rootfs/name@version.
func (s *Stratum) Files(name, version string, files map[string][]byte) *publisher.Result {
	s.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for path, data := range files {
		check(s.t, w.WriteHeader(&tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}))
		_, err := w.Write(data)
		check(s.t, err)
	}
	check(s.t, w.Close())
	path := filepath.Join(s.t.TempDir(), strings.ReplaceAll(name+version, "/", "-")+".tar")
	check(s.t, os.WriteFile(path, b.Bytes(), 0o600))
	return s.Rootfs(name, version, path)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
