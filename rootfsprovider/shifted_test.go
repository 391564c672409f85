package rootfsprovider_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/control/controltest"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
	"github.com/rootstock-cf/rootstock/rootfsprovider/layer"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// shifted is the cell's tree with owners as Guardian's mapping has them, as a
// daemon shows it where the kernel cannot map ids.
func (c *cell) shifted() string {
	c.t.Helper()
	dir := filepath.Join(c.t.TempDir(), "shifted")
	if out, err := exec.Command("cp", "-a", c.lower, dir).CombinedOutput(); err != nil {
		c.t.Fatalf("cp: %v: %s", err, out)
	}
	must(c.t, layer.Chown(c.t.Context(), dir, overlay.Mapping{UIDs: guardian, GIDs: guardian}.Host))
	c.write("of the daemon", dir, "etc", "shifted")
	return dir
}

// Layers that the daemon has mapped are taken as they are, and nothing is
// mounted with mapped ids, which an overlay before Linux 5.19 would not take.
func TestMappedByDaemon(t *testing.T) {
	c, r := fullCell(t)
	c.conf.UIDMaps, c.conf.GIDMaps = guardian, guardian
	c.daemon.Map(uri, c.shifted())
	p := c.provider()
	rootfsprovider.SetStep(p, func(name string) error {
		if name == "mapped" {
			t.Error("the plugin maps layers itself")
		}
		return nil
	})
	spec, err := p.Create(t.Context(), r)
	must(t, err)
	if text, err := os.ReadFile(filepath.Join(spec.Root.Path, "etc/shifted")); err != nil || string(text) != "of the daemon" {
		t.Errorf("another layer was mounted: %q, %v", text, err)
	}
	if uid, gid := owner(t, filepath.Join(spec.Root.Path, "home/vcap")); uid != 1000 || gid != 1000 {
		t.Errorf("a user's file belongs to %d:%d", uid, gid)
	}
	shifted := c.layers()
	if len(shifted) != 1 {
		t.Fatalf("layers of certificates: %v", shifted)
	}
	bundle := filepath.Join(c.conf.Store, "cas", shifted[0], "etc/ssl/certs/ca-certificates.crt")
	if uid, gid := owner(t, bundle); uid != guardian[0].Host || gid != guardian[0].Host {
		t.Errorf("on disk the bundle belongs to %d:%d", uid, gid)
	}
	// Another mapping, or none, takes another layer.
	c.conf.UIDMaps, c.conf.GIDMaps = nil, nil
	_, err = c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "privileged"})
	must(t, err)
	if all := c.layers(); len(all) != 2 {
		t.Errorf("layers of certificates: %v", all)
	}
	for _, handle := range []string{r.Handle, "privileged"} {
		must(t, c.provider().Delete(t.Context(), handle))
	}
	_, err = c.provider().GC(t.Context())
	must(t, err)
	c.clean()
}

// A daemon of the release before knows of no user namespaces, and the kernel
// maps as it did then.
func TestMappedWithOldDaemon(t *testing.T) {
	c := newCell(t)
	c.conf.UIDMaps, c.conf.GIDMaps = guardian, guardian
	c.daemon.Age()
	spec := c.create("old")
	if uid, _ := owner(t, filepath.Join(spec.Root.Path, "etc/file")); uid != guardian[0].Host {
		t.Errorf("the container's root is %d", uid)
	}
	must(t, c.provider().Delete(t.Context(), "old"))
	c.clean()
}

func TestMappedAnswersRefused(t *testing.T) {
	c := newCell(t)
	unasked, short := controltest.Tree(c.lower, "7", imageSize), controltest.Tree(c.lower, "7", imageSize)
	unasked.Mapped = []string{c.lower}
	short.Mapped = []string{c.lower, c.lower}
	odd := controltest.Tree(c.lower, "7", imageSize)
	odd.Mapped = []string{"relative"}
	c.daemon.Add(map[string]control.Lower{uri + "-unasked": unasked, uri + "-short": short, uri + "-odd-mapped": odd})
	for name, says := range map[string]string{
		"-unasked": "that has the host's", "-short": "1 layers, and 2", "-odd-mapped": "not a clean absolute path",
	} {
		_, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri + name, Handle: "h"})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
	c.clean()
}
