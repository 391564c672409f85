package e2e_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/imagemeta/profile"
)

// What one cell's container opened comes to the next cell before its own
// container asks, and goes on to the next version.
func TestStartupProfile(t *testing.T) {
	needImageTier(t)
	s := newSite(t)
	tree := func(version string, files map[string]string) string {
		t.Helper()
		dir := filepath.Join(s.dir, "source"+version)
		for name, content := range files {
			must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
		}
		run(t, "", "tar", "-C", dir, "-cf", dir+".tar", ".")
		return s.publish(t, "rootfs", "app", version, dir+".tar")
	}
	tree("1", map[string]string{"bin/server": "server 1", "etc/conf": "conf", "usr/doc": strings.Repeat("never read ", 1000)})
	first := s.cell(t, "--tier", "image")
	root := first.create("plugin.json", "rootfs/app@1", "one")
	readFile := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	readFile(root+"/bin/server", "server 1")
	readFile(root+"/etc/conf", "conf")
	if e := first.status().Exposure; e == nil || e.Bytes != 11_000 || e.Bound != 2 || len(e.Trees) != 1 {
		t.Errorf("exposure %+v", e)
	}
	first.plugin("plugin.json", "delete", "one")
	recorded := func() string {
		return run(t, "", s.bin+"/rootstock-cell", "profiles", "--socket", first.dir+"/cell.sock")
	}
	for deadline := time.Now().Add(patience); !strings.Contains(recorded(), "ms"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was recorded: %q", recorded())
		}
	}
	docs, err := profile.Read(strings.NewReader(recorded()))
	if err != nil || len(docs) != 1 || len(docs[0].Order()) != 2 {
		t.Fatalf("recorded %v, %v", docs, err)
	}

	publish := func(source string) (done struct {
		Revision uint64
		Trees    []string
	},
	) {
		t.Helper()
		out := run(t, "", s.bin+"/rootstock", "profile", "publish", "--store", s.store, "--keys", s.keys, "--json", source)
		must(t, json.Unmarshal([]byte(out), &done))
		return done
	}
	done := publish(first.dir + "/cell.sock")
	if len(done.Trees) != 1 || done.Trees[0] != docs[0].Tree.String() {
		t.Errorf("published %+v", done)
	}
	file := filepath.Join(s.dir, "profiles")
	must(t, os.WriteFile(file, []byte(recorded()), 0o600))
	if again := publish(file); len(again.Trees) != 0 || again.Revision != done.Revision {
		t.Errorf("the same again: %+v", again)
	}
	run(t, "", s.bin+"/rootstock", "check", "--store", s.store)
	first.stop()

	tree("2", map[string]string{"bin/server": "server 2", "etc/conf": "conf", "usr/doc": "new"})
	for version, server := range map[string]string{"1": "server 1", "2": "server 2"} {
		c := s.cell(t, "--tier", "image")
		root := c.create("plugin.json", "rootfs/app@"+version, "cold")
		for deadline := time.Now().Add(patience); c.status().Exposure.Bytes > 11_000; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("version %s: %+v", version, c.status().Exposure)
			}
		}
		before := c.status()
		readFile(root+"/bin/server", server)
		readFile(root+"/etc/conf", "conf")
		after := c.status()
		if n := after.Images.Requests - before.Images.Requests; n != 0 || after.Exposure.Bound != 0 {
			t.Errorf("version %s: %d requests, %+v", version, n, after.Exposure)
		}
		c.plugin("plugin.json", "delete", "cold")
		c.stop()
	}
}

// What is in use is fetched in the background by a daemon that has a
// configuration, until nothing is exposed, and its metrics say so.
func TestFillAndMetrics(t *testing.T) {
	needImageTier(t)
	s := newSite(t)
	dir := filepath.Join(s.dir, "source")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(dir+"/a", bytes.Repeat([]byte("a"), 5000), 0o644))
	run(t, "", "tar", "-C", dir, "-cf", dir+".tar", ".")
	s.publish(t, "rootfs", "app", "1", dir+".tar")
	address := freeAddress(t)
	c := s.cell(t, "--tier", "image", "--metrics", address, "--fill", "1MiB", "--fill-delay", "100ms")
	c.create("plugin.json", "rootfs/app@1", "one")
	metrics := func() string {
		resp, err := http.Get("http://" + address + "/metrics")
		must(t, err)
		defer resp.Body.Close()
		var b bytes.Buffer
		_, err = b.ReadFrom(resp.Body)
		must(t, err)
		return b.String()
	}
	for deadline := time.Now().Add(patience); !strings.Contains(metrics(), "\nrootstock_image_exposure_bytes 0\n"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still exposed: %+v", c.status().Exposure)
		}
	}
	if st := c.status(); st.Exposure.Bytes != 0 || st.Exposure.Bound != 0 || st.Cache.Bytes < 5000 {
		t.Errorf("%+v, %+v", st.Exposure, st.Cache)
	}
	c.plugin("plugin.json", "delete", "one")
	c.stop()
}
