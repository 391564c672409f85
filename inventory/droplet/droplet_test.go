package droplet_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/droplet"
)

var digest = droplet.LayerPrefix + strings.Repeat("0", 64)

// files are those of a droplet of several languages.
var files = map[string]string{
	"app/node_modules/bcrypt/package.json":                                   `{"name":"bcrypt","version":"4.0.1"}`,
	"deps/0/python/lib/python3.12/site-packages/idna-3.7.dist-info/METADATA": "Metadata-Version: 2.1\nName: idna\nVersion: 3.7\n",
	"deps/1/vendor_bundle/ruby/3.2.0/specifications/rack-2.2.3.gemspec":      "Gem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"2.2.3\"\nend\n",
	"deps/0/config.yml":     "name: python\nversion: 1.8.26\nconfig: {}\n",
	"staging_info.yml":      `{"detected_buildpack":"java-main open-jdk-like-jre=1.8.0_252 java-buildpack=v4.29.1","start_command":"x"}`,
	"app/README":            "nothing",
	"app/deps/0/config.yml": "name: not\nversion: 1\n",
}

var want = []string{
	"gem rack 2.2.3", "generic java-buildpack v4.29.1", "generic open-jdk-like-jre 1.8.0_252", "generic python-buildpack 1.8.26",
	"npm bcrypt 4.0.1", "pypi idna 3.7",
}

func said(v inventory.Inventory) (all []string) {
	for _, p := range v.Packages {
		all = append(all, string(p.Ecosystem)+" "+p.Name+" "+p.Version)
	}
	return all
}

type entry struct {
	name, text, link string
	kind             byte
}

func archive(t *testing.T, zip bool, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: 0o644, Size: int64(len(e.text))}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !zip {
		return b.Bytes()
	}
	var z bytes.Buffer
	g := gzip.NewWriter(&z)
	g.Write(b.Bytes())
	g.Close()
	return z.Bytes()
}

func entries() (all []entry) {
	for name, text := range files {
		all = append(all, entry{name: "./" + name, text: text})
	}
	return all
}

func TestReadTar(t *testing.T) {
	for _, zip := range []bool{false, true} {
		v, err := droplet.ReadTar(t.Context(), bytes.NewReader(archive(t, zip, entries()...)), digest)
		if err != nil || v.Tree != digest || !slices.Equal(said(v), want) || len(v.NotRead) != 0 {
			t.Errorf("zipped %v: %q, not read %v, %v", zip, said(v), v.NotRead, err)
		}
	}
}

// What a layer says last counts, as it does when it is unpacked.
func TestTarNames(t *testing.T) {
	pkg := func(v string) string { return `{"name":"x","version":"` + v + `"}` }
	const at = "app/node_modules/x/package.json"
	for name, one := range map[string]struct {
		entries []entry
		want    []string
	}{
		"twice":        {[]entry{{name: at, text: pkg("1")}, {name: "./app/../" + at, text: pkg("2")}}, []string{"npm x 2"}},
		"then a link":  {[]entry{{name: at, text: pkg("1")}, {name: at, kind: tar.TypeSymlink, link: "/etc/passwd"}}, nil},
		"climbing":     {[]entry{{name: "../../" + at, text: pkg("1")}}, []string{"npm x 1"}},
		"a hard link":  {[]entry{{name: at, text: pkg("1")}, {name: "b/node_modules/x/package.json", kind: tar.TypeLink, link: at}}, []string{"npm x 1", "npm x 1"}},
		"link to none": {[]entry{{name: at, kind: tar.TypeLink, link: "none"}}, nil},
		"the root":     {[]entry{{name: "./", kind: tar.TypeDir}, {name: "/", kind: tar.TypeDir}}, nil},
	} {
		v, err := droplet.ReadTar(t.Context(), bytes.NewReader(archive(t, false, one.entries...)), digest)
		if err != nil || !slices.Equal(said(v), one.want) {
			t.Errorf("%s: %q, %v", name, said(v), err)
		}
	}
}

// Whatever comes, there is an error or an inventory, soon, and a file that is
// too large is a gap rather than nothing.
func TestHostileTars(t *testing.T) {
	good := archive(t, true, entries()...)
	for _, cut := range []int{1, 10, len(good) / 2} {
		if _, err := droplet.ReadTar(t.Context(), bytes.NewReader(good[:cut]), digest); err == nil {
			t.Errorf("the first %d bytes are a layer", cut)
		}
	}
	if _, err := droplet.ReadTar(t.Context(), bytes.NewReader(bytes.Repeat([]byte("x"), 4096)), digest); err == nil {
		t.Error("no tar is one")
	}
	big := archive(t, false, entry{name: "app/node_modules/x/package.json", text: strings.Repeat(" ", 5<<20)})
	v, err := droplet.ReadTar(t.Context(), bytes.NewReader(big), digest)
	if err != nil || len(v.NotRead) != 1 || v.NotRead[0].Ecosystem != inventory.NPM {
		t.Errorf("%v, %v", v.NotRead, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := droplet.ReadTar(ctx, bytes.NewReader(good), digest); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadTar(f *testing.F) {
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := droplet.ReadTar(t.Context(), bytes.NewReader(b), digest)
		if err == nil && v.Tree != digest {
			t.Error("it speaks of another")
		}
	})
}

func TestCheck(t *testing.T) {
	for _, bad := range []string{"", "sha256:", "sha256:00", "md5:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("G", 64), "sha256:../" + strings.Repeat("0", 61)} {
		if err := droplet.Check(bad); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func free(context.Context, int64) error { return nil }

// given makes a container's directory.
func given(t *testing.T, more map[string]string) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, list := range []map[string]string{files, more} {
		for name, text := range list {
			p := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644), os.Chtimes(p, old, time.Unix(1_700_000_000, 0))); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func list(t *testing.T, root *os.Root) *droplet.Given {
	t.Helper()
	g, err := droplet.List(t.Context(), root, time.Now().Add(-time.Minute), free)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Containers of one droplet have one digest, whatever they wrote since; what the
// container puts in the way of the reader is not followed.
func TestRunningContainer(t *testing.T) {
	one, dir := given(t, nil)
	two, _ := given(t, nil)
	other, _ := given(t, map[string]string{"app/more": "x"})
	outside := filepath.Join(t.TempDir(), "package.json")
	secret := []byte(`{"name":"secret","version":"1"}`)
	const at = "app/node_modules/evil"
	if err := errors.Join(
		os.WriteFile(outside, secret, 0o644), os.MkdirAll(filepath.Join(dir, at), 0o755), os.Symlink(outside, filepath.Join(dir, at, "package.json")),
		os.Symlink(filepath.Dir(outside), filepath.Join(dir, "app/node_modules/secret")),
		syscall.Mkfifo(filepath.Join(dir, "app/node_modules/pipe"), 0o644),
		os.MkdirAll(filepath.Join(dir, "app/node_modules/young"), 0o755),
		os.WriteFile(filepath.Join(dir, "app/node_modules/young/package.json"), secret, 0o644),
	); err != nil {
		t.Fatal(err)
	}
	a, b := list(t, one), list(t, two)
	if a.Digest != b.Digest || droplet.Check(a.Digest) != nil || a.Digest == list(t, other).Digest || a.Empty() {
		t.Errorf("%s, %s, %s", a.Digest, b.Digest, list(t, other).Digest)
	}
	v, err := a.Read(t.Context(), free)
	if err != nil || !slices.Equal(said(v), want) || len(v.NotRead) != 0 || v.Tree != a.Digest {
		t.Errorf("%q, %v, %v", said(v), v.NotRead, err)
	}
	// Between listing and reading a file becomes a link to elsewhere, another
	// a pipe that nobody writes to.
	npm, idna := filepath.Join(dir, "app/node_modules/bcrypt/package.json"), filepath.Join(dir, "staging_info.yml")
	if err := errors.Join(os.Remove(npm), os.Symlink(outside, npm), os.Remove(idna), syscall.Mkfifo(idna, 0o644)); err != nil {
		t.Fatal(err)
	}
	v, err = a.Read(t.Context(), free)
	if err != nil || strings.Contains(strings.Join(said(v), " "), "secret") || len(v.NotRead) != 2 {
		t.Errorf("%q, %v, %v", said(v), v.NotRead, err)
	}
	// What lies deeper than anything honest is a gap.
	deep := strings.Repeat("d/", 130)
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, deep), 0o755), os.WriteFile(filepath.Join(dir, deep, "package.json"), secret, 0o644)); err != nil {
		t.Fatal(err)
	}
	below, err := list(t, one).Read(t.Context(), free)
	if err != nil || !slices.ContainsFunc(below.NotRead, func(g inventory.Gap) bool { return strings.HasPrefix(g.Path, "d/d/d/") }) {
		t.Errorf("%v, %v", below.NotRead, err)
	}
	empty, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	if !list(t, empty).Empty() {
		t.Error("nothing is something")
	}
	stop := errors.New("stop")
	if _, err := b.Read(t.Context(), func(_ context.Context, n int64) error {
		if n > 0 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) {
		t.Errorf("the pace is not kept: %v", err)
	}
}
