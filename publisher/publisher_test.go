package publisher_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
)

const fqrn = "test.example.org"

// keys are made once: the tests are about other things.
var keys = sync.OnceValues(func() (*manifest.Keys, error) {
	k, m, err := manifest.GenerateKeys(fqrn, manifest.KeyOptions{Bits: 2048})
	master = m
	return k, err
})

type site struct {
	t   *testing.T
	o   publisher.Options
	now time.Time
}

func newSite(t *testing.T) *site {
	t.Helper()
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	st, err := local.Create(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	s := &site{t: t, now: time.Unix(1700000000, 0)}
	s.o = publisher.Options{
		Store: st, Keys: k, TempDir: t.TempDir(), IndexDir: t.TempDir(),
		Now: func() time.Time { s.now = s.now.Add(time.Second); return s.now },
	}
	if err := publisher.Init(t.Context(), s.o, publisher.Settings{Compression: object.Zstd, Algorithm: object.SHAKE128}, master); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) publish(ref string, src *source.Source) (*publisher.Result, error) {
	s.t.Helper()
	defer src.Close()
	r, err := reference.Parse(ref)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := publisher.Open(s.t.Context(), s.o)
	if err != nil {
		return nil, err
	}
	return p.Publish(s.t.Context(), publisher.Job{Reference: r, Source: src})
}

func (s *site) mustPublish(ref string, src *source.Source) *publisher.Result {
	s.t.Helper()
	r, err := s.publish(ref, src)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// tarOf is a tar of files by name.
func tarOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func rootfs(t *testing.T, files ...string) *source.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rootfs.tar")
	if err := os.WriteFile(path, tarOf(t, files...), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := source.OpenRootfs(t.Context(), path, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// image is an OCI layout on disk with one layer and an environment.
func image(t *testing.T, env string, files ...string) *source.Source {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(tarOf(t, files...), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.Config(img, v1.Config{Env: []string{env}}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	src, err := source.OpenImage(t.Context(), "oci:"+dir, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestRootfs(t *testing.T) {
	s := newSite(t)
	one := s.mustPublish("rootfs/jammy@1", rootfs(t, "a=1", "b=2"))
	if one.Revision != 2 || one.Unchanged || one.Path != "/rootfs/jammy/1" || one.Entries != 3 || one.Bytes != 2 {
		t.Errorf("first publish: %+v", one)
	}
	again := s.mustPublish("rootfs/jammy@1", rootfs(t, "b=2", "a=1")) // in another order
	if !again.Unchanged || again.Revision != 2 || again.Tree != one.Tree {
		t.Errorf("the same again: %+v", again)
	}
	_, err := s.publish("rootfs/jammy@1", rootfs(t, "a=1", "b=3"))
	if !errors.Is(err, publisher.ErrExists) || !strings.Contains(err.Error(), one.Tree) {
		t.Errorf("other content under the same version: %v", err)
	}
	two := s.mustPublish("rootfs/jammy@2", rootfs(t, "a=1", "b=3"))
	if two.Revision != 3 || two.Tree == one.Tree {
		t.Errorf("a second version: %+v", two)
	}
	// The same tree under another name shares all of its content.
	other := s.mustPublish("rootfs/noble@1", rootfs(t, "a=1", "b=2"))
	if other.Tree != one.Tree || other.NewObjects != 0 {
		t.Errorf("the same tree elsewhere: %+v", other)
	}
	if _, err := s.publish("rootfs/jammy", rootfs(t, "a=1")); err == nil {
		t.Error("a reference without version was published")
	}
}

func TestImage(t *testing.T) {
	s := newSite(t)
	one := image(t, "A=1", "a=1")
	config := strings.TrimPrefix(one.ConfigDigest, "sha256:")
	r := s.mustPublish("images/registry.example/app@v1", one)
	if r.Path != "/.flat/"+config[:2]+"/"+config {
		t.Errorf("tree at %s", r.Path)
	}
	if again := s.mustPublish("images/registry.example/app@v1", image(t, "A=1", "a=1")); !again.Unchanged {
		t.Errorf("the same again: %+v", again)
	}
	// The same files in another environment are another image on the same tree.
	env := s.mustPublish("images/registry.example/app@v2", image(t, "A=2", "a=1"))
	if env.Tree != r.Tree || env.Path == r.Path {
		t.Errorf("another environment: %+v", env)
	}
	// Tags move.
	moved := s.mustPublish("images/registry.example/app@v1", image(t, "A=2", "a=1"))
	if moved.Unchanged || moved.Path != env.Path || moved.NewObjects != 0 {
		t.Errorf("a moved tag: %+v", moved)
	}
	all, err := publisher.List(t.Context(), s.o.Store, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Path != env.Path || all[1].Path != env.Path {
		t.Errorf("listed %+v", all)
	}
}

func TestImageIsDescribed(t *testing.T) {
	s := newSite(t)
	src := image(t, "A=1", "a=1")
	digest, config := src.ConfigDigest, src.Config
	s.mustPublish("images/registry.example/app@v1", src)
	var found publisher.Image
	for _, content := range s.contents() {
		if json.Unmarshal(content, &found) == nil && found.ConfigDigest == digest {
			break
		}
	}
	if found.ConfigDigest != digest || !bytes.Equal(bytes.TrimSpace(found.Config), bytes.TrimSpace(config)) {
		t.Errorf("no image.json holds the configuration as the registry has it: %+v", found)
	}
}

func TestWhoMayPublish(t *testing.T) {
	s := newSite(t)
	other, _, err := manifest.GenerateKeys(fqrn, manifest.KeyOptions{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	mine := s.o.Keys
	s.o.Keys = other
	if _, err := s.publish("rootfs/a@1", rootfs(t, "a=1")); err == nil || !strings.Contains(err.Error(), "not signed with these keys") {
		t.Errorf("with other keys: %v", err)
	}
	s.o.Keys = mine
	unlock, err := s.o.Store.Lock(t.Context(), "somebody else")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.publish("rootfs/a@1", rootfs(t, "a=1")); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("while somebody else publishes: %v", err)
	}
	unlock()
	s.mustPublish("rootfs/a@1", rootfs(t, "a=1"))
	if err := publisher.Init(t.Context(), s.o, publisher.Settings{Algorithm: object.SHA1}, master); !errors.Is(err, store.ErrConflict) {
		t.Errorf("init over a repository: %v", err)
	}
}

// failing is a store that fails at the n-th write.
type failing struct {
	store.Store
	left atomic.Int64
}

var errFull = errors.New("no space left on device")

func (f *failing) spend() error {
	if f.left.Add(-1) < 0 {
		return errFull
	}
	return nil
}

func (f *failing) Put(ctx context.Context, name string, data []byte) error {
	if err := f.spend(); err != nil {
		return err
	}
	return f.Store.Put(ctx, name, data)
}

func (f *failing) Sync(ctx context.Context) error {
	if err := f.spend(); err != nil {
		return err
	}
	return f.Store.Sync(ctx)
}

func (f *failing) Swap(ctx context.Context, name string, old, next []byte) error {
	if err := f.spend(); err != nil {
		return err
	}
	return f.Store.Swap(ctx, name, old, next)
}

// Whatever write a publish dies at, the repository is at its last revision, and
// the next run makes the very tree it would have made.
func TestEveryWriteMayFail(t *testing.T) {
	s := newSite(t)
	whole, by := s.o.Store, signer(t)
	for n := 0; ; n++ {
		full := &failing{Store: whole}
		full.left.Store(int64(n))
		s.o.Store = full
		s.o.Workers, s.o.Attest = 1, by
		_, err := s.publish("rootfs/jammy@1", rootfs(t, "a=1", "b=2", "c/d=3"))
		if err == nil {
			if n < 10 {
				t.Fatalf("a publish made only %d writes", n)
			}
			break
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("write %d failed: %v", n, err)
		}
		all, err := publisher.List(t.Context(), whole, t.TempDir())
		if err != nil || len(all) != 0 {
			t.Fatalf("after write %d failed: %v, %v", n, all, err)
		}
	}
	all, err := publisher.List(t.Context(), whole, t.TempDir())
	if err != nil || len(all) != 1 {
		t.Fatalf("in the end: %v, %v", all, err)
	}
}
