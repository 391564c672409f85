// Package testsite makes a repository in a directory the way an operator does,
// with the publisher, for tests of what works on repositories; and breaks it in
// ways the publisher never would.
//
//	s := testsite.New(t, publisher.Settings{…})
//	s.Rootfs("demo", "1", testsite.File("etc/motd", "welcome"))
//	s.Edit("/rootfs/demo/1", "DELETE FROM catalog WHERE name = 'motd'")
package testsite

import (
	"archive/tar"
	"bytes"
	"crypto/rsa"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/ingest"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store/local"
)

// Name is the repository's.
const Name = "test.example.org"

// Site is a repository with its keys. Its methods fail the test themselves.
type Site struct {
	Dir     string
	Store   *local.Store
	Keys    *manifest.Keys
	Master  *rsa.PrivateKey
	Options publisher.Options

	t testing.TB
	// now is the clock, which each look moves a second.
	mu  sync.Mutex
	now time.Time

	stamped map[string]time.Time // by path: what Stamp did
}

type pair struct {
	keys   *manifest.Keys
	master *rsa.PrivateKey
}

// The keys are made once: the tests are about other things.
var keys = sync.OnceValues(func() (pair, error) {
	k, m, err := manifest.GenerateKeys(Name, manifest.KeyOptions{Bits: 2048})
	return pair{k, m}, err
})

// New makes an empty repository.
func New(t testing.TB, settings publisher.Settings) *Site {
	t.Helper()
	p, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "store")
	st, err := local.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	s := &Site{Dir: dir, Store: st, Keys: p.keys, Master: p.master, t: t, now: time.Now().Add(-time.Hour).Truncate(time.Second), stamped: map[string]time.Time{}}
	s.Options = publisher.Options{Store: st, Keys: s.Keys, TempDir: t.TempDir(), IndexDir: t.TempDir(), Now: s.Now}
	s.check(publisher.Init(t.Context(), s.Options, settings, s.Master))
	return s
}

// Clone is a copy that can be broken by itself. Objects are hard links.
func (s *Site) Clone(t testing.TB) *Site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	err := filepath.WalkDir(s.Dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := dir + strings.TrimPrefix(path, s.Dir)
		if e.IsDir() || strings.HasPrefix(e.Name(), ".rootstock") {
			return nil
		}
		if err := os.Link(path, to); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.Link(path, to)
	})
	if err != nil {
		t.Fatal(err)
	}
	st, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	c := &Site{Dir: dir, Store: st, Keys: s.Keys, Master: s.Master, Options: s.Options, t: t, now: s.now, stamped: map[string]time.Time{}}
	c.Options.Store, c.Options.Now = st, c.Now
	return c
}

// Now is the site's clock: each look moves it a second.
func (s *Site) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(time.Second)
	return s.now
}

// Sleep moves the clock.
func (s *Site) Sleep(d time.Duration) {
	s.t.Helper()
	s.Stamp()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// Stamp makes objects that were put since the last time as old as the site's
// clock says.
func (s *Site) Stamp() {
	s.t.Helper()
	now := s.Now()
	s.check(filepath.WalkDir(filepath.Join(s.Dir, "data"), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if t, ok := s.stamped[path]; ok && t.Equal(info.ModTime()) {
			return nil
		}
		s.stamped[path] = now
		return os.Chtimes(path, time.Time{}, now)
	}))
}

func (s *Site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Entry is a member of a tar.
type Entry struct {
	tar.Header
	Data []byte
}

// File is a regular file.
func File(name, text string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(1e9, 5)}, []byte(text)}
}

// Large is content that is stored in two chunks, and hardly longer than what is
// stored in one.
var Large = sync.OnceValue(func() string {
	b := make([]byte, ingest.DefaultChunking.Min+256<<10)
	for seed := byte(0); seed == 0 || ingest.DefaultChunking.Cut(b) == len(b); seed++ {
		_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	}
	return string(b)
})

// Link is a symbolic link.
func Link(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

// HardLink is a further name of the file target.
func HardLink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}

// Tar packs entries.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.Data))
		e.Format = tar.FormatPAX
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Rootfs publishes a root file system.
func (s *Site) Rootfs(name, version string, entries ...Entry) *publisher.Result {
	s.t.Helper()
	r, err := s.rootfs(name, version, entries...)
	s.check(err)
	return r
}

// TryRootfs is Rootfs where publishing may fail.
func (s *Site) TryRootfs(name, version string, entries ...Entry) error {
	s.t.Helper()
	_, err := s.rootfs(name, version, entries...)
	return err
}

func (s *Site) rootfs(name, version string, entries ...Entry) (*publisher.Result, error) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "rootfs.tar")
	s.check(os.WriteFile(file, Tar(s.t, entries...), 0o600))
	src, err := source.OpenRootfs(s.t.Context(), file, source.Options{})
	s.check(err)
	return s.publish(reference.Reference{Kind: reference.Rootfs, Name: name, Version: version}, src)
}

// Image publishes an image of one layer as registry.example/NAME:TAG.
func (s *Site) Image(name, tag string, entries ...Entry) *publisher.Result {
	s.t.Helper()
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(Tar(s.t, entries...), types.OCIUncompressedLayer))
	s.check(err)
	img, err = mutate.Config(img, v1.Config{Env: []string{"NAME=" + name}})
	s.check(err)
	dir := s.t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	s.check(err)
	s.check(path.AppendImage(img))
	src, err := source.OpenImage(s.t.Context(), "oci:"+dir, source.Options{})
	s.check(err)
	r, err := s.publish(reference.Reference{Kind: reference.Images, Name: "registry.example/" + name, Version: tag}, src)
	s.check(err)
	return r
}

func (s *Site) publish(ref reference.Reference, src *source.Source) (*publisher.Result, error) {
	defer src.Close()
	p, err := publisher.Open(s.t.Context(), s.Options)
	if err != nil {
		return nil, err
	}
	return p.Publish(s.t.Context(), publisher.Job{Reference: ref, Source: src})
}
