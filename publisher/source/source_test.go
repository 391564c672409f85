package source_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/rootstock-cf/rootstock/publisher/source"
)

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

// makeTar packs one file of size bytes that compress about two to one.
func makeTar(t testing.TB, name string, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := make([]byte, size)
	for i := range text {
		text[i] = byte(i*i>>7) & 0x3f
	}
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size)}), write(w, text), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// filter runs a compressor over b.
func filter(t testing.TB, b []byte, command ...string) []byte {
	t.Helper()
	c := exec.Command(command[0], command[1:]...) // #nosec G204
	c.Stdin = bytes.NewReader(b)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return out
}

func tool(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil { // #nosec G204
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// readLayer returns all a layer has, and the first error met.
func readLayer(l source.Layer) ([]byte, error) {
	in, err := l.Open(context.Background())
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(in)
	if cerr := in.Close(); err == nil && cerr != nil {
		return b, fmt.Errorf("only Close fails: %w", cerr)
	} else if err != nil && cerr == nil {
		return b, fmt.Errorf("close does not repeat: %w", err)
	}
	return b, err
}

// quick are options for tests: no long waits, temporary files below t.
func quick(t testing.TB) source.Options {
	return source.Options{TempDir: t.TempDir(), RetryDelay: time.Millisecond}
}

// noLeftovers fails if a source has left temporary files.
func noLeftovers(t testing.TB, o source.Options) {
	t.Helper()
	left, err := os.ReadDir(o.TempDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in TempDir: %v %v", left, err)
	}
}

// image is two layers on top of each other, compressed with gzip.
func image(t testing.TB) (v1.Image, [][]byte) {
	t.Helper()
	tars := [][]byte{makeTar(t, "lower", 900_000), makeTar(t, "upper", 1000)}
	img := mutate.MediaType(empty.Image, "application/vnd.oci.image.manifest.v1+json")
	img = mutate.ConfigMediaType(img, "application/vnd.oci.image.config.v1+json")
	for _, b := range tars {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
			tarball.WithMediaType("application/vnd.oci.image.layer.v1.tar+gzip"))
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			t.Fatal(err)
		}
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Config.Env = "linux", "amd64", []string{"A=b"}
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img, tars
}

// ociLayout writes an image as a layout with the given ref and returns its
// directory.
func ociLayout(t testing.TB, img v1.Image, ref string) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": ref}))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// checkImage opens spec and compares every layer with tars, twice.
func checkImage(t *testing.T, spec string, o source.Options, tars [][]byte) *source.Source {
	t.Helper()
	s, err := source.OpenImage(context.Background(), spec, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		noLeftovers(t, o)
	})
	if len(s.Layers) != len(tars) {
		t.Fatalf("%d layers, want %d", len(s.Layers), len(tars))
	}
	for range 2 {
		for i, l := range s.Layers {
			b, err := readLayer(l)
			if err != nil || !bytes.Equal(b, tars[i]) || l.DiffID() != digest(b) {
				t.Errorf("layer %d: %d bytes, want %d, diff id %s, %v", i, len(b), len(tars[i]), l.DiffID(), err)
			}
		}
	}
	if s.Kind != source.KindImage || s.ConfigDigest != digest(s.Config) || !bytes.Contains(s.Config, []byte(`"A=b"`)) {
		t.Errorf("kind %s, config %s %s", s.Kind, s.ConfigDigest, s.Config)
	}
	if s.Manifest != nil && s.Digest != digest(s.Manifest) {
		t.Errorf("digest %s of %s", s.Digest, s.Manifest)
	}
	return s
}

func save(t testing.TB, name string, b []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRootfs(t *testing.T) {
	plain := makeTar(t, "etc/stack-version", 3_000_000)
	gz := filter(t, plain, "gzip", "-1")
	members := append(filter(t, plain[:1_000_000], "gzip"), filter(t, plain[1_000_000:], "gzip")...)
	frames := append(filter(t, plain[:1_000_000], "zstd", "-c"), filter(t, plain[1_000_000:], "zstd", "-c")...)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2}, filter(t, plain, "zstd", "-c")...)
	for name, b := range map[string][]byte{
		"plain": plain, "gzip": gz, "gzip members": members, "zstd": filter(t, plain, "zstd", "-c"),
		"zstd frames": frames, "zstd skippable": skippable,
		"xz": filter(t, plain, "xz", "-1"), "xz blocks": filter(t, plain, "xz", "-T2", "--block-size=500000"),
		"empty tar": make([]byte, 10240),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := source.OpenRootfs(context.Background(), save(t, "misleading.zip", b), quick(t))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close() //nolint:errcheck // holds nothing
			if s.Digest != "" || s.Layers[0].DiffID() != "" {
				t.Errorf("digest %q, diff id %q before reading", s.Digest, s.Layers[0].DiffID())
			}
			want := plain
			if name == "empty tar" {
				want = b
			}
			for range 2 {
				got, err := readLayer(s.Layers[0])
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
			}
			if s.Kind != source.KindRootfs || s.Digest != digest(b) || s.Layers[0].DiffID() != digest(want) {
				t.Errorf("kind %s, digest %s, diff id %s", s.Kind, s.Digest, s.Layers[0].DiffID())
			}
		})
	}
}

func TestRootfsRefused(t *testing.T) {
	plain := makeTar(t, "a", 100_000)
	gz := filter(t, plain, "gzip")
	zst := filter(t, plain, "zstd", "-c")
	xz := filter(t, plain, "xz")
	flip := bytes.Clone(zst)
	flip[len(flip)/2] ^= 0xff
	hugeDict := bytes.Clone(xz)
	at := bytes.Index(hugeDict[12:64], []byte{0x21, 1}) + 14
	hugeDict[at] = 40
	for name, tc := range map[string]struct {
		b    []byte
		kind error
	}{
		"empty":             {nil, source.ErrFormat},
		"text":              {[]byte(strings.Repeat("hello ", 200)), source.ErrFormat},
		"short text":        {[]byte("hello"), source.ErrFormat},
		"zip":               {[]byte("PK\x03\x04" + strings.Repeat("x", 600)), source.ErrFormat},
		"bzip2":             {[]byte("BZh91AY&SY" + strings.Repeat("x", 600)), source.ErrUnsupported},
		"gzip cut":          {gz[:len(gz)-20], source.ErrTruncated},
		"gzip head cut":     {gz[:5], source.ErrTruncated},
		"zstd cut":          {zst[:len(zst)/2], source.ErrTruncated},
		"xz cut":            {xz[:len(xz)/2], source.ErrTruncated},
		"gzip with garbage": {append(bytes.Clone(gz), "garbage garbage"...), source.ErrFormat},
		"zstd with garbage": {append(bytes.Clone(zst), "garbage garbage"...), source.ErrFormat},
		"zstd damaged":      {flip, source.ErrFormat},
		"xz dictionary":     {hugeDict, source.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			path := save(t, "rootfs.tar", tc.b)
			s, err := source.OpenRootfs(context.Background(), path, quick(t))
			if err == nil {
				_, err = readLayer(s.Layers[0])
			}
			if !errors.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), path) || strings.Contains(err.Error(), "Close") {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := source.OpenRootfs(context.Background(), "/nowhere/x.tar", quick(t)); !errors.Is(err, source.ErrNotFound) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := source.OpenRootfs(context.Background(), t.TempDir(), quick(t)); !errors.Is(err, source.ErrUnsupported) {
		t.Errorf("directory: %v", err)
	}
}

func TestRootfsChanges(t *testing.T) {
	path := save(t, "rootfs.tar", makeTar(t, "a", 1000))
	s, err := source.OpenRootfs(context.Background(), path, quick(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readLayer(s.Layers[0]); err != nil {
		t.Fatal(err)
	}
	before := s.Digest
	if err := os.WriteFile(path, makeTar(t, "b", 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readLayer(s.Layers[0]); !errors.Is(err, source.ErrDigest) || s.Digest != before {
		t.Errorf("got %v", err)
	}
}

func TestLimits(t *testing.T) {
	bomb := filter(t, make([]byte, 300<<20), "gzip", "-1")
	zeros := save(t, "bomb.tar.gz", bomb)
	small := save(t, "small.tar", makeTar(t, "a", 5000))
	for name, tc := range map[string]struct {
		path string
		o    source.Options
		ok   bool
	}{
		"bytes":         {small, source.Options{MaxBytes: 5000}, false},
		"bytes enough":  {small, source.Options{MaxBytes: 8192}, true},
		"ratio":         {zeros, source.Options{MaxRatio: 100}, false},
		"ratio allowed": {zeros, source.Options{MaxRatio: 2000}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := source.OpenRootfs(context.Background(), tc.path, tc.o)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a second reading is not charged again
				in, err := s.Layers[0].Open(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, in)
				in.Close() //nolint:errcheck // repeats
				if tc.ok && err != nil || !tc.ok && !errors.Is(err, source.ErrTooLarge) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

func TestCloseEarlyAndCancel(t *testing.T) {
	path := save(t, "rootfs.tar.gz", filter(t, makeTar(t, "a", 8<<20), "gzip", "-1"))
	s, err := source.OpenRootfs(context.Background(), path, quick(t))
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.Layers[0].Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(in, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Errorf("closing early: %v", err)
	}
	if _, err := in.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read after close: %v", err)
	}
	if s.Digest != "" {
		t.Error("a digest of half a file")
	}
	ctx, cancel := context.WithCancel(context.Background())
	if in, err = s.Layers[0].Open(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, in); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	in.Close() //nolint:errcheck // repeats
}

func BenchmarkRootfsGzip(b *testing.B) {
	plain := makeTar(b, "a", 64<<20)
	path := filepath.Join(b.TempDir(), "r.tar.gz")
	if err := os.WriteFile(path, filter(b, plain, "gzip"), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		s, err := source.OpenRootfs(context.Background(), path, source.Options{})
		if err != nil {
			b.Fatal(err)
		}
		in, err := s.Layers[0].Open(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, in); err != nil {
			b.Fatal(err)
		}
		in.Close() //nolint:errcheck // at its end
	}
}
