// Package testrepo makes, signs and serves a small repository in this process,
// for tests of whatever reads one. It is a real repository in memory, served
// over real HTTP, whose server can be told to misbehave.
//
//	repo := testrepo.New(t, testrepo.Options{})
//	repo.Publish(testrepo.Tree{"/etc/hostname": testrepo.Text("box")})
//	… client.Options{Name: repo.Name, Trust: repo.Trust(), …} against repo.URL
package testrepo

import (
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// Options describe a repository; zero values are defaults.
type Options struct {
	Name        string             // test.example.org
	Algorithm   object.Algorithm   // SHAKE-128
	Compression object.Compression // of files; the zero value is zlib
	// Expires is when the whitelist ends; in a year.
	Expires time.Time
}

// Repo is a repository and its server. Its methods fail the test themselves.
// They may be called while clients read.
type Repo struct {
	Name string
	URL  string

	t      testing.TB
	o      Options
	keys   *manifest.Keys
	master *rsa.PrivateKey
	head   manifest.Manifest
	server *httptest.Server

	mu     sync.Mutex
	files  map[string][]byte
	faults map[string]http.HandlerFunc
	hits   map[string]int
}

// defaultName has its keys made once per process, since that takes longer than
// all else here.
const defaultName = "test.example.org"

type keyPair struct {
	keys   *manifest.Keys
	master *rsa.PrivateKey
}

var defaultKeys = sync.OnceValues(func() (keyPair, error) { return makeKeys(defaultName) })

func makeKeys(name string) (keyPair, error) {
	keys, master, err := manifest.GenerateKeys(name, manifest.KeyOptions{Bits: 2048})
	return keyPair{keys, master}, err
}

// New makes a repository with keys and a whitelist but no revision, and serves
// it until the test ends.
func New(t testing.TB, o Options) *Repo {
	t.Helper()
	if o.Name == "" {
		o.Name = defaultName
	}
	if o.Algorithm == 0 {
		o.Algorithm = object.SHAKE128
	}
	if o.Expires.IsZero() {
		o.Expires = time.Now().AddDate(1, 0, 0)
	}
	make := func() (keyPair, error) { return makeKeys(o.Name) }
	if o.Name == defaultName {
		make = defaultKeys
	}
	pair, err := make()
	if err != nil {
		t.Fatal(err)
	}
	r := &Repo{
		Name: o.Name, t: t, o: o, keys: pair.keys, master: pair.master,
		files: map[string][]byte{}, faults: map[string]http.HandlerFunc{}, hits: map[string]int{},
	}
	r.head = manifest.Manifest{Name: o.Name, TTL: 240}
	r.head.Certificate = r.PutObject(object.Zlib, object.Certificate, pair.keys.Certificate.PEM)
	r.Whitelist(o.Expires)
	r.server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.server.Close)
	r.URL = r.server.URL
	return r
}

// Trust is what a client of the repository is configured with.
func (r *Repo) Trust() manifest.Trust {
	return manifest.Trust{Keys: []*rsa.PublicKey{&r.master.PublicKey}}
}

// Keys are the repository's, for a client that reads them from files.
func (r *Repo) Keys() (*manifest.Keys, *rsa.PrivateKey) { return r.keys, r.master }

// CertificateDER is the release certificate, whose digest is its fingerprint.
func (r *Repo) CertificateDER() []byte { return r.keys.Certificate.DER }

// Head is the newest manifest.
func (r *Repo) Head() manifest.Manifest { return r.head }

// Whitelist signs a whitelist that ends at expires.
func (r *Repo) Whitelist(expires time.Time) {
	r.t.Helper()
	w := manifest.Whitelist{
		Name: r.Name, Created: expires.AddDate(-1, 0, 0), Expires: expires,
		Fingerprints: []object.Hash{r.keys.Certificate.Fingerprint(r.o.Algorithm)},
	}
	raw, err := w.Sign(r.master, r.o.Algorithm)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Put(manifest.WhitelistName, raw)
}

// Sign publishes a manifest as it is, be it older than the one before.
func (r *Repo) Sign(m manifest.Manifest) {
	r.t.Helper()
	raw, err := m.Sign(r.keys.Release, r.o.Algorithm)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Put(manifest.FileName, raw)
	r.head = m
}

// Put serves data under name.
func (r *Repo) Put(name string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files[name] = data
}

// Get returns what is served under name, nil if nothing is.
func (r *Repo) Get(name string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.files[name]
}

// Remove stops serving name.
func (r *Repo) Remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.files, name)
}

// Names lists what is served below prefix.
func (r *Repo) Names(prefix string) (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.files {
		if strings.HasPrefix(name, prefix) {
			list = append(list, name)
		}
	}
	return list
}

// Fault answers requests for names below prefix with h; nil ends it. Of
// several prefixes that match, any may be taken.
func (r *Repo) Fault(prefix string, h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h == nil {
		delete(r.faults, prefix)
		return
	}
	r.faults[prefix] = h
}

// Hits counts the requests for name.
func (r *Repo) Hits(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hits[name]
}

// Requests counts all requests for names below prefix.
func (r *Repo) Requests(prefix string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, hits := range r.hits {
		if strings.HasPrefix(name, prefix) {
			n += hits
		}
	}
	return n
}

func (r *Repo) serve(w http.ResponseWriter, req *http.Request) {
	name := strings.TrimPrefix(req.URL.Path, "/")
	r.mu.Lock()
	r.hits[name]++
	data, ok := r.files[name]
	var fault http.HandlerFunc
	for prefix, h := range r.faults {
		if strings.HasPrefix(name, prefix) {
			fault = h
		}
	}
	r.mu.Unlock()
	switch {
	case fault != nil:
		fault(w, req)
	case !ok:
		http.NotFound(w, req)
	default:
		w.Header().Set("ETag", `"`+r.o.Algorithm.Sum(data).String()+`"`)
		http.ServeContent(w, req, "", time.Time{}, strings.NewReader(string(data)))
	}
}

// PutObject stores plain bytes and returns their object's name.
func (r *Repo) PutObject(c object.Compression, t object.Type, plain []byte) object.Hash {
	r.t.Helper()
	stored, err := codec.Encode(c, nil, plain)
	if err != nil {
		r.t.Fatal(err)
	}
	h := r.o.Algorithm.Sum(stored)
	r.Put(object.Path(h, t), stored)
	return h
}
