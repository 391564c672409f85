package e2e_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store/local"
)

// steps of each walk, and the seed; a failure names both.
const (
	randomSteps = 50
	randomSeed  = 20240229
)

// Whatever order operators do things in, an independent reader of the format
// accepts the repository after every step, and it holds what it should.
func TestRandomSteps(t *testing.T) {
	tool := needTool(t, "verify_repo.py")
	for _, c := range []object.Compression{object.Zlib, object.None} {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			w := newWalk(t, c)
			revisions := t.TempDir()
			var names []string
			for i := range randomSteps {
				did := w.step()
				w.compare(did)
				if t.Failed() {
					t.Fatalf("seed %d, step %d: %s", randomSeed, i, did)
				}
				names = append(names, w.keep(filepath.Join(revisions, fmt.Sprintf("%02d %s", i, strings.ReplaceAll(did, "/", "_")))))
			}
			cmd := exec.Command("python3", append([]string{tool}, names...)...)
			cmd.Env = append(os.Environ(), "CVMFS_PUBKEYS="+w.keys+"/*.pub")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if len(lines) != len(names) {
				t.Errorf("%d verdicts on %d revisions", len(lines), len(names))
			}
			for _, l := range lines {
				if !strings.HasPrefix(l, "OK ") || !strings.Contains(l, "'reflogY': 1") ||
					strings.Contains(l, "'zdiff'") || strings.Contains(l, "'missing'") || strings.Contains(l, "nomarker") {
					t.Errorf("seed %d: %s", randomSeed, l)
				}
			}
			t.Log(w.did)
		})
	}
}

// keep makes dir the repository as it is now. Objects are never removed, so
// that only the root files have to be copied.
func (w *wander) keep(dir string) string {
	w.must(os.Mkdir(dir, 0o755))
	w.must(os.Symlink(filepath.Join(w.dir, "data"), filepath.Join(dir, "data")))
	for _, name := range []string{".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog"} {
		b, err := os.ReadFile(filepath.Join(w.dir, name))
		w.must(err)
		w.must(os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	return dir
}

// state is what a revision should hold.
type state struct {
	trees    map[string]placed   // by reference
	flats    map[string]string   // tree ids of images by path, linked or not
	channels map[string][]placed // what they point to, then what they did
}

type placed struct{ Version, Tree, Path string }

func (s state) clone() state {
	c := state{maps.Clone(s.trees), maps.Clone(s.flats), map[string][]placed{}}
	for k, v := range s.channels {
		c.channels[k] = slices.Clone(v)
	}
	return c
}

type wander struct {
	t         *testing.T
	rand      *rand.Rand
	dir, keys string
	o         publisher.Options
	now       state
	past      map[uint64]state // by revision
	revision  uint64
	seen      map[string]bool // tree ids there ever were
	did       map[string]int
}

func newWalk(t *testing.T, c object.Compression) *wander {
	t.Helper()
	w := &wander{
		t: t, rand: rand.New(rand.NewPCG(randomSeed, uint64(c))), dir: filepath.Join(t.TempDir(), "store"), keys: t.TempDir() + "/keys",
		now:  state{map[string]placed{}, map[string]string{}, map[string][]placed{}},
		past: map[uint64]state{}, revision: 1, seen: map[string]bool{}, did: map[string]int{},
	}
	k, master, err := manifest.GenerateKeys("t.example.org", manifest.KeyOptions{Bits: 2048})
	w.must(err)
	w.must(k.Write(w.keys, master))
	st, err := local.Create(w.dir)
	w.must(err)
	t.Cleanup(func() { st.Close() })
	clock := time.Unix(1700000000, 0)
	w.o = publisher.Options{
		Store: st, Keys: k, TempDir: t.TempDir(), AutoTags: 40 * time.Second, CatalogEntries: 12,
		Now: func() time.Time { clock = clock.Add(time.Second); return clock },
	}
	w.must(publisher.Init(t.Context(), w.o, publisher.Settings{Compression: c, Algorithm: object.SHAKE128}, master))
	w.past[1] = w.now.clone()
	return w
}

func (w *wander) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// step does something and says what.
func (w *wander) step() string {
	p, err := publisher.Open(w.t.Context(), w.o)
	w.must(err)
	n := w.rand.IntN(100)
	for _, do := range []struct {
		weight int // percent
		name   string
		fn     func(*publisher.Publisher) string
	}{
		{20, "publish a rootfs", w.publishRootfs},
		{18, "publish an image", w.publishImage},
		{18, "remove", w.remove},
		{16, "set a channel", w.setChannel},
		{10, "roll back a channel", w.rollbackChannel},
		{2, "remove a channel", w.removeChannel},
		{8, "tag", w.tag},
		{8, "roll back", w.rollback},
	} {
		if n -= do.weight; n < 0 {
			w.did[do.name]++
			return do.fn(p)
		}
	}
	w.t.Fatal("the weights do not add up to 100 %")
	return ""
}

// moved notes a new revision.
func (w *wander) moved(revision uint64, unchanged bool) {
	w.t.Helper()
	if unchanged {
		if revision != w.revision {
			w.t.Errorf("nothing changed, yet revision %d became %d", w.revision, revision)
		}
		return
	}
	if revision != w.revision+1 {
		w.t.Errorf("revision %d follows %d", revision, w.revision)
	}
	w.revision = revision
	w.past[revision] = w.now.clone()
}

func (w *wander) publish(p *publisher.Publisher, text string, src *source.Source) string {
	defer src.Close()
	ref, err := reference.Parse(text)
	w.must(err)
	was, there := w.now.trees[text]
	r, err := p.Publish(w.t.Context(), publisher.Job{Reference: ref, Source: src})
	if errors.Is(err, publisher.ErrExists) && there && ref.Kind == reference.Rootfs {
		return text + " is there with other content"
	}
	w.must(err)
	w.now.trees[text] = placed{ref.Version, r.Tree, r.Path}
	if ref.Kind == reference.Images {
		w.now.flats[r.Path] = r.Tree
	}
	w.seen[r.Tree] = true
	w.moved(r.Revision, r.Unchanged)
	if r.Unchanged != (was == w.now.trees[text]) {
		w.t.Errorf("unchanged is %v", r.Unchanged)
	}
	return "publish " + text
}

func (w *wander) publishRootfs(p *publisher.Publisher) string {
	file := filepath.Join(w.t.TempDir(), "rootfs.tar")
	w.must(os.WriteFile(file, w.tar(), 0o600))
	src, err := source.OpenRootfs(w.t.Context(), file, source.Options{})
	w.must(err)
	return w.publish(p, fmt.Sprintf("rootfs/%c@%d", 'a'+w.rand.IntN(2), w.rand.IntN(4)), src)
}

func (w *wander) publishImage(p *publisher.Publisher) string {
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(w.tar(), types.OCIUncompressedLayer))
	w.must(err)
	img, err = mutate.Config(img, v1.Config{Env: []string{fmt.Sprintf("N=%d", w.rand.IntN(2))}})
	w.must(err)
	dir := w.t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	w.must(err)
	w.must(path.AppendImage(img))
	src, err := source.OpenImage(w.t.Context(), "oci:"+dir, source.Options{})
	w.must(err)
	return w.publish(p, fmt.Sprintf("images/r.example.org/%s@%d", []string{"x", "y/z"}[w.rand.IntN(2)], w.rand.IntN(3)), src)
}

// tar is one of a few trees, larger and smaller than a catalog may be.
func (w *wander) tar() []byte {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	n := w.rand.IntN(5)
	for i := range 3 + 9*n {
		name, text := fmt.Sprintf("d%d/e%d/f%d", i%n1(n), i%5, i), fmt.Sprintf("content %d", i%(4+n))
		w.must(t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}))
		_, err := t.Write([]byte(text))
		w.must(err)
		w.must(t.WriteHeader(&tar.Header{Name: name + ".hard", Linkname: name, Typeflag: tar.TypeLink}))
	}
	w.must(t.Close())
	return b.Bytes()
}

func n1(n int) int { return max(n, 1) }

// pick returns one of the keys of m, "" if there is none.
func pick[V any](w *wander, m map[string]V) string {
	keys := slices.Sorted(maps.Keys(m))
	if len(keys) == 0 {
		return ""
	}
	return keys[w.rand.IntN(len(keys))]
}

func (w *wander) remove(p *publisher.Publisher) string {
	text := pick(w, w.now.trees)
	if text == "" {
		return "nothing to remove"
	}
	ref, err := reference.Parse(text)
	w.must(err)
	t := w.now.trees[text]
	others, used := false, false
	for other, o := range w.now.trees {
		others = others || other != text && o.Path == t.Path
	}
	for channel, c := range w.now.channels {
		c0 := c[0]
		used = used || c0.Path == t.Path && (!others || c0.Version == t.Version && strings.HasPrefix(channel, string(ref.Kind)+"/"+ref.Name+":"))
	}
	r, err := p.Remove(w.t.Context(), ref)
	if used {
		if !errors.Is(err, publisher.ErrInUse) {
			w.t.Errorf("remove %s, which a channel points to: %v", text, err)
		}
		return "refuse to remove " + text
	}
	w.must(err)
	delete(w.now.trees, text)
	if !others {
		delete(w.now.flats, t.Path)
	}
	w.moved(r.Revision, false)
	return "remove " + text
}

func (w *wander) setChannel(p *publisher.Publisher) string {
	text := pick(w, w.now.trees)
	if text == "" {
		return "nothing to point to"
	}
	ref, err := reference.Parse(text)
	w.must(err)
	t := w.now.trees[text]
	ref.Version, ref.Channel = "", []string{"stable", "next"}[w.rand.IntN(2)]
	r, err := p.SetChannel(w.t.Context(), ref, t.Version)
	w.must(err)
	c := w.now.channels[ref.String()]
	same := len(c) > 0 && c[0] == t
	if !same {
		w.now.channels[ref.String()] = append([]placed{t}, c...)
	}
	if same != r.Unchanged {
		w.t.Errorf("%s: unchanged is %v", ref, r.Unchanged)
	}
	w.moved(r.Revision, r.Unchanged)
	return fmt.Sprintf("set %s to %s", ref, t.Version)
}

func (w *wander) rollbackChannel(p *publisher.Publisher) string {
	text := pick(w, w.now.channels)
	if text == "" {
		return "no channel"
	}
	ref, err := reference.Parse(text)
	w.must(err)
	c := w.now.channels[text]
	possible := len(c) > 1
	if possible {
		t, there := w.now.trees[ref.WithVersion(c[1].Version).String()]
		possible = there && t.Tree == c[1].Tree
		if possible {
			c[1].Path = t.Path // another image may have the same tree
		}
	}
	r, err := p.RollbackChannel(w.t.Context(), ref)
	if !possible {
		if err == nil {
			w.t.Errorf("roll back %s, which cannot go back: %+v", text, r)
		}
		return "refuse to roll back " + text
	}
	w.must(err)
	if !r.Unchanged {
		w.now.channels[text] = c[1:]
	}
	w.moved(r.Revision, r.Unchanged)
	return "roll back " + text
}

func (w *wander) removeChannel(p *publisher.Publisher) string {
	text := pick(w, w.now.channels)
	if text == "" {
		return "no channel"
	}
	ref, err := reference.Parse(text)
	w.must(err)
	r, err := p.RemoveChannel(w.t.Context(), ref)
	w.must(err)
	delete(w.now.channels, text)
	w.moved(r.Revision, false)
	return "remove " + text
}

func (w *wander) tag(p *publisher.Publisher) string {
	name := fmt.Sprintf("tag%d", w.rand.IntN(5))
	_, err := p.Tag(w.t.Context(), name, "")
	if errors.Is(err, history.ErrExist) {
		w.must(p.RemoveTags(w.t.Context(), name))
		return "remove " + name
	}
	w.must(err)
	return "tag " + name
}

func (w *wander) rollback(p *publisher.Publisher) string {
	tags, err := publisher.Tags(w.t.Context(), w.o.Store, w.o.TempDir)
	w.must(err)
	to := tags[w.rand.IntN(len(tags))]
	r, err := p.Rollback(w.t.Context(), to.Name)
	if to.Revision == w.revision {
		if err == nil {
			w.t.Error("rolled back to the newest revision")
		}
		return "refuse to roll back to " + to.Name
	}
	w.must(err)
	w.now = w.past[to.Revision].clone()
	w.moved(r.Revision, false)
	tags, err = publisher.Tags(w.t.Context(), w.o.Store, w.o.TempDir)
	w.must(err)
	for _, t := range tags {
		if now := t.Name == to.Name || t.Name == history.Trunk; now != (t.Revision == r.Revision) || !now && t.Revision > to.Revision {
			w.t.Errorf("after the rollback to %s there is %+v", to.Name, t)
		}
	}
	return "roll back to " + to.Name
}

// compare reads the repository and tells where it is not what it should be.
func (w *wander) compare(did string) {
	w.t.Helper()
	ctx, st, tmp := w.t.Context(), w.o.Store, w.o.TempDir
	list, err := publisher.List(ctx, st, tmp)
	w.must(err)
	trees := map[string]placed{}
	for _, l := range list {
		trees[l.Reference.String()] = placed{l.Reference.Version, l.Tree, l.Path}
	}
	if diff := cmp.Diff(w.now.trees, trees); diff != "" {
		w.t.Errorf("%s: trees: %s", did, diff)
	}
	channels, err := publisher.Channels(ctx, st, tmp)
	w.must(err)
	got, want := map[string][]placed{}, map[string][]placed{}
	for _, c := range channels {
		text := c.Reference.String()
		got[text] = []placed{{Version: c.Version, Tree: c.Tree}}
		for _, e := range c.Previous {
			got[text] = append(got[text], placed{Version: e.Version, Tree: e.Tree})
		}
	}
	for text, all := range w.now.channels {
		for _, c := range all[:min(len(all), 50)] {
			want[text] = append(want[text], placed{Version: c.Version, Tree: c.Tree})
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s: channels: %s", did, diff)
	}
	live := map[string]bool{}
	for _, t := range w.now.trees {
		live[t.Tree] = true
	}
	for _, id := range w.now.flats {
		live[id] = true
	}
	for id := range w.seen {
		_, err := publisher.Explain(ctx, st, tmp, "/.rootstock/trees/"+id[:2]+"/"+id+"/listing")
		if gone := errors.Is(err, publisher.ErrNotFound); gone == live[id] {
			w.t.Errorf("%s: tree %s: live is %v, its listing: %v", did, id, live[id], err)
		}
	}
}
