package publisher_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/check"
	"github.com/rootstock-cf/rootstock/store/local"
)

// mixed is a repository with versions, hard links, a chunked file and an image.
func mixed(t *testing.T, c object.Compression) *testsite.Site {
	t.Helper()
	s := testsite.New(t, publisher.Settings{Compression: c, Algorithm: object.SHAKE128})
	s.Rootfs("demo", "1", testsite.File("a", "one"), testsite.HardLink("b/a", "a"), testsite.File("empty", ""), testsite.File("big", testsite.Large()))
	var many []testsite.Entry
	for i := range 60 {
		many = append(many, testsite.File(fmt.Sprint("f", i), strings.Repeat(fmt.Sprint(i, " "), 100)))
	}
	s.Rootfs("demo", "2", many...)
	s.Image("app", "v1", testsite.File("app", "#!"))
	return s
}

func recompress(t *testing.T, o publisher.Options, to object.Compression) *publisher.Recompressed {
	t.Helper()
	p, err := publisher.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Recompress(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustBeWhole(t *testing.T, s *testsite.Site) {
	t.Helper()
	_, err := check.Run(t.Context(), check.Options{
		Store: s.Store, Masters: []*rsa.PublicKey{&s.Master.PublicKey}, Tags: true, Now: s.Now, TempDir: t.TempDir(),
		Found: func(f check.Finding) { t.Errorf("%v", f) },
	})
	if err != nil {
		t.Fatal(err)
	}
}

// trees are the ids by reference, and how one file of each is stored.
func trees(t *testing.T, s *testsite.Site) (ids string, stored object.Compression) {
	t.Helper()
	all, err := publisher.List(t.Context(), s.Store, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		ids += fmt.Sprintln(l.Reference, l.Path, l.Tree, l.Entries, l.Bytes, l.Published)
	}
	return ids, s.Row("/rootfs/demo/1", "/rootfs/demo/1/a").Compression
}

func TestRecompress(t *testing.T) {
	for _, from := range []object.Compression{object.Zlib, object.None} {
		s := mixed(t, from)
		ids, _ := trees(t, s)
		for _, to := range []object.Compression{object.Zlib, object.None, object.Zstd} {
			before := s.Head()
			r := recompress(t, s.Options, to)
			got, stored := trees(t, s)
			if got != ids || stored != to {
				t.Errorf("%s to %s: stored as %s, trees were\n%sand are\n%s", from, to, stored, ids, got)
			}
			if wasSo := from == to && before.Revision == 4; r.Unchanged != wasSo || !wasSo && s.Head().Revision != before.Revision+1 {
				t.Errorf("%s to %s: %+v after revision %d", from, to, r, before.Revision)
			}
			if s.Row("/rootfs/demo/1", "/rootfs/demo/1/.cvmfscatalog").Compression != to {
				t.Errorf("%s to %s: the marker is left as it was", from, to)
			}
			if again := recompress(t, s.Options, to); !again.Unchanged || again.New != 0 || again.Revision != s.Head().Revision {
				t.Errorf("%s to %s again: %+v", from, to, again)
			}
			mustBeWhole(t, s)
		}
		// Whoever publishes next does so in the new compression.
		s.Rootfs("demo", "3", testsite.File("new", "new"))
		if c := s.Row("/rootfs/demo/3", "/rootfs/demo/3/new").Compression; c != object.Zstd {
			t.Errorf("published as %s", c)
		}
	}
}

// What others keep in the metainfo stays there.
func TestRecompressKeepsMetainfo(t *testing.T) {
	s := mixed(t, object.Zstd)
	text := bytes.Replace(s.Plain(s.Head().Metainfo, object.Metainfo), []byte(`"custom": {`), []byte(`"custom": {"theirs": 12345678901234567890, `), 1)
	text = bytes.Replace(text, []byte(`"email": ""`), []byte(`"email": "us@example.org"`), 1)
	h := s.Put(text, object.Metainfo)
	s.Adopt(func(m *manifest.Manifest) { m.Metainfo = h })
	recompress(t, s.Options, object.None)
	got := string(s.Plain(s.Head().Metainfo, object.Metainfo))
	for _, want := range []string{"12345678901234567890", "us@example.org", `"compression": "none"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
}

func TestRecompressRefusesDamage(t *testing.T) {
	s := mixed(t, object.Zstd)
	name := s.Object("/rootfs/demo/2", "/rootfs/demo/2/f7")
	b := s.Read(name)
	b[len(b)-1] ^= 1
	s.Write(name, b)
	before := s.Head()
	p, err := publisher.Open(t.Context(), s.Options)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Recompress(t.Context(), object.Zlib)
	if err == nil || !strings.Contains(err.Error(), "f7") || s.Head() != before {
		t.Errorf("%v, revision %d", err, s.Head().Revision)
	}
}

// mortal is a store that ends after some Puts, and counts which files' objects
// are read.
type mortal struct {
	*local.Store
	left atomic.Int64 // Puts that come through; then it calls end
	end  func() error
	gets atomic.Int64
}

func (m *mortal) Put(ctx context.Context, name string, data []byte) error {
	if err := m.Store.Put(ctx, name, data); err != nil {
		return err
	}
	if m.left.Add(-1) == 0 {
		return m.end()
	}
	return nil
}

func (m *mortal) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if _, typ, ok := object.ParsePath(name); ok && (typ == object.Bulk || typ == object.Partial) {
		m.gets.Add(1)
	}
	return m.Store.Get(ctx, name)
}

// An attempt that ends with an error leaves behind what it knows: the next one
// reads only what is left to do.
func TestRecompressReadsNothingTwice(t *testing.T) {
	s := mixed(t, object.Zlib)
	full := errors.New("no space left")
	m := &mortal{Store: s.Store, end: func() error { return full }}
	m.left.Store(50)
	o := s.Options
	o.Store = m
	p, err := publisher.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Recompress(t.Context(), object.None); !errors.Is(err, full) {
		t.Fatal(err)
	}
	m.gets.Store(0)
	r := recompress(t, o, object.None)
	// Three tables are read in any case, and the trees' own files, of which
	// no table speaks.
	if all := int64(r.Contents); m.gets.Load() > all-25 {
		t.Errorf("%d objects of %d contents were read again: %+v", m.gets.Load(), all, r)
	}
	mustBeWhole(t, s)
}

// TestRecompressIsKilled runs in a process of its own, if told to.
func TestRecompressIsKilled(t *testing.T) {
	dir := os.Getenv("ROOTSTOCK_TEST_KILLED")
	if dir == "" {
		return // TestRecompressGoesOn says what is wrong with it
	}
	keys, err := manifest.ReadKeys(dir+"/keys", testsite.Name)
	if err != nil {
		t.Fatal(err)
	}
	st, err := local.Open(dir + "/store")
	if err != nil {
		t.Fatal(err)
	}
	d := &mortal{Store: st, end: func() error {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}}
	var n int64
	fmt.Sscan(os.Getenv("ROOTSTOCK_TEST_PUTS"), &n)
	d.left.Store(n)
	p, err := publisher.Open(t.Context(), publisher.Options{Store: d, Keys: keys, IndexDir: dir + "/index", TempDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Recompress(t.Context(), object.None)
	t.Fatalf("it was to be killed: %v", err)
}

func TestRecompressGoesOn(t *testing.T) {
	whole := mixed(t, object.Zlib)
	for _, puts := range []int{1, 72} {
		s := whole.Clone(t)
		ids, _ := trees(t, s)
		dir := strings.TrimSuffix(s.Dir, "/store")
		if err := s.Keys.Write(dir+"/keys", s.Master); err != nil {
			t.Fatal(err)
		}
		before := s.Head()
		cmd := exec.Command(os.Args[0], "-test.run=^TestRecompressIsKilled$")
		cmd.Env = append(os.Environ(), "ROOTSTOCK_TEST_KILLED="+dir, fmt.Sprint("ROOTSTOCK_TEST_PUTS=", puts))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%d puts: %v: %s", puts, err, out)
		}
		if s.Head() != before {
			t.Errorf("%d puts: the repository is at revision %d", puts, s.Head().Revision)
		}
		mustBeWhole(t, s)
		o := s.Options
		o.IndexDir = dir + "/index"
		r := recompress(t, o, object.None)
		// All that the first attempt stored of them is known.
		if r.Known < int64(min(puts, r.Contents)) || r.Revision != before.Revision+1 {
			t.Errorf("%d puts: %+v", puts, r)
		}
		if got, stored := trees(t, s); got != ids || stored != object.None {
			t.Errorf("%d puts: stored as %s, trees\n%s", puts, stored, got)
		}
		mustBeWhole(t, s)
	}
}
