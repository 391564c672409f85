package gdn_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/rootstock-cf/rootstock/e2e/rig"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

const (
	repository = "gdn.example.org"
	treeURI    = "cvmfs://stacks/rootfs/debian:stable"
	imageURI   = "docker:///test/debian#12"
)

// guardian is the mapping of Guardian's unprivileged containers
// (docs/garden.md 2).
var guardian = []overlay.IDRange{{Container: 0, Host: 4294967294, Size: 1}, {Container: 1, Host: 1, Size: 4294967293}}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a repository with a Debian root file system, as a tree and as an
// image.
type site struct{ dir, store, keys string }

// shared is the repository of all tests, which only read it.
var shared struct {
	once sync.Once
	site *site
}

func theSite(t *testing.T) *site {
	t.Helper()
	shared.once.Do(func() { shared.site = newSite(t, filepath.Join(programs.dir, "site")) })
	if shared.site == nil {
		t.Fatal("no repository: the first test says why")
	}
	return shared.site
}

func newSite(t *testing.T, dir string) *site {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	s := &site{dir: dir, store: dir + "/repository", keys: dir + "/keys"}
	keys, master, err := manifest.GenerateKeys(repository, manifest.KeyOptions{Bits: 2048})
	must(t, err)
	must(t, keys.Write(s.keys, master))
	s.rootstock(t, "init", "--name", repository)
	tar := rig.Debian(t)
	s.rootstock(t, "publish", "rootfs", "debian", "12", tar)
	s.rootstock(t, "channel", "set", "rootfs/debian", "stable", "12")
	layer, err := tarball.LayerFromFile(tar)
	must(t, err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	must(t, err)
	conf, err := img.ConfigFile()
	must(t, err)
	conf.OS, conf.Architecture = "linux", "amd64"
	conf.Config.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "FROM_IMAGE=yes"}
	img, err = mutate.ConfigFile(img, conf)
	must(t, err)
	oci, err := layout.Write(dir+"/oci", empty.Index)
	must(t, err)
	must(t, oci.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "12"})))
	s.rootstock(t, "publish", "image", "--as", "docker.io/test/debian:12", "oci:"+dir+"/oci:12")
	return s
}

func (s *site) rootstock(t *testing.T, args ...string) {
	t.Helper()
	rig.Run(t, programs.dir+"/rootstock", append(args, "--store", s.store, "--keys", s.keys)...)
}

// cell is a machine with Garden: rootstock-cell, the plugin's configurations,
// and gdn.
type cell struct {
	*garden
	t     *testing.T
	dir   string
	store string
	gdn   *rig.Process
	log   string
}

// cell starts a cell. Flags go before what the environment says (rig.Ways).
func (s *site) cell(t *testing.T, flags ...string) *cell {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755)) // processes of a user namespace have to get to their root
	}
	c := &cell{t: t, dir: dir, store: dir + "/store", log: dir + "/gdn.log", garden: newGarden(dir + "/garden.sock")}
	must(t, os.Mkdir(dir+"/mnt", 0o755))
	daemon := rig.Start(t, exec.Command(programs.dir+"/rootstock-cell", slices.Concat([]string{
		"mount", "--url", rig.Serve(t, s.store),
		"--name", repository, "--key", s.keys + "/" + repository + ".pub", "--cache", dir + "/cache", "--socket", dir + "/cell.sock",
	},
		rig.Ways(), flags, []string{dir + "/mnt"})...))
	daemon.Until("mounting", func() bool { return strings.Contains(daemon.Said(), "mounted ") })
	for name, mapping := range map[string][]overlay.IDRange{"privileged": nil, "unprivileged": guardian} {
		text, err := json.Marshal(map[string]any{
			"store": c.store, "socket": dir + "/cell.sock", "uid_maps": mapping, "gid_maps": mapping,
			"repositories": map[string]string{"stacks": repository}, "public": []string{"docker.io/test"},
		})
		must(t, err)
		must(t, os.WriteFile(dir+"/"+name+".json", text, 0o600))
	}
	c.start()
	t.Cleanup(c.nothingLeft)
	return c
}

// start starts gdn on what a former one has left.
func (c *cell) start() {
	c.t.Helper()
	beside, plugin := filepath.Dir(gdnBin), programs.dir+"/rootstock-plugin"
	sbin := func(name string) string {
		path, err := exec.LookPath(name)
		if err != nil {
			path = "/usr/sbin/" + name
		}
		return path
	}
	cmd := exec.Command(gdnBin, "server", "--bind-socket", c.socket, "--debug-bind-ip", "127.0.0.1", "--debug-bind-port", "17013",
		"--depot", c.dir+"/depot", "--properties-path", c.dir+"/properties.json", "--console-sockets-path", c.dir+"/consoles",
		"--port-pool-properties-path", c.dir+"/ports.json", "--tag", tag, "--external-ip", address, "--network-pool", "10.254.0.0/22",
		"--dadoo-bin", beside+"/dadoo", "--nstar-bin", beside+"/nstar", "--init-bin", beside+"/init", "--tar-bin", sbin("tar"),
		"--iptables-bin", sbin("iptables"), "--iptables-restore-bin", sbin("iptables-restore"),
		"--runtime-plugin", programs.dir+"/runc", "--default-rootfs", treeURI,
		"--image-plugin", plugin, "--image-plugin-extra-arg=--config="+c.dir+"/unprivileged.json",
		"--privileged-image-plugin", plugin, "--privileged-image-plugin-extra-arg=--config="+c.dir+"/privileged.json")
	cmd.Env = append(os.Environ(), "GDN_RUNC="+programs.runc)
	must(c.t, os.MkdirAll(c.dir+"/depot", 0o755))
	must(c.t, os.MkdirAll(c.dir+"/consoles", 0o755))
	c.gdn = rig.Start(c.t, cmd)
	c.gdn.Until("answer", func() bool { return c.call(c.t.Context(), "GET", "/ping", nil, nil) == nil })
}

// nothingLeft is what holds when all containers are destroyed.
func (c *cell) nothingLeft() {
	t := c.t
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), c.store) {
		t.Error("something is still mounted below the store")
	}
	for _, name := range []string{"containers", "records", "locks", "images", "releases"} {
		if left, err := os.ReadDir(filepath.Join(c.store, name)); err == nil && len(left) > 0 {
			t.Errorf("%s still holds %v", name, left)
		}
	}
	out, err := exec.Command(programs.dir+"/rootstock-cell", "ls", "containers", "--socket", c.dir+"/cell.sock", "--json").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("the daemon still has containers: %v\n%s", err, out)
	}
	// What the plugin printed must be lines that Garden understands.
	for lines := bufio.NewScanner(strings.NewReader(c.gdn.Said())); lines.Scan(); {
		if strings.Contains(lines.Text(), `"level":"error"`) && strings.Contains(lines.Text(), "rootstock-plugin") && strings.Contains(lines.Text(), "parsing") {
			t.Errorf("gdn could not read %s", lines.Text())
		}
	}
}
