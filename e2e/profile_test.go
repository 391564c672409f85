package e2e_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
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

// Profiles come from a cell's fleet listener, for those who show a certificate.
func TestStartupProfileFromFleet(t *testing.T) {
	needImageTier(t)
	s := newSite(t)
	dir := filepath.Join(s.dir, "source")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(dir+"/program", []byte("program"), 0o755))
	run(t, "", "tar", "-C", dir, "-cf", dir+".tar", ".")
	s.publish(t, "rootfs", "app", "1", dir+".tar")

	certs := writeCertificates(t, s.dir, "127.0.0.", 1, 1)
	at := filepath.Join(s.dir, "cell")
	must(t, os.MkdirAll(at+"/mnt", 0o755))
	listen := freeAddress(t)
	conf, err := json.Marshal(map[string]any{
		"cache": "cache", "socket": "cell.sock", "refresh": "1h", "tier": "image", "metrics": "off", "fill": 0,
		"fleet": map[string]string{"listen": listen, "ca": certs + "/ca.pem", "cert": certs + "/0.pem", "key": certs + "/0.key"},
		"repositories": []map[string]any{{
			"name": siteName, "servers": []string{s.serve(t)}, "keys": []string{filepath.Join(s.keys, siteName+".pub")}, "mountpoint": "mnt",
		}},
	})
	must(t, err)
	must(t, os.WriteFile(at+"/cell.json", conf, 0o600))
	c := &cellDaemon{t: t, s: s, dir: at, args: []string{"run", "--config", at + "/cell.json"}}
	t.Cleanup(c.end)
	c.config("plugin.json", nil)
	c.start()
	root := c.create("plugin.json", "rootfs/app@1", "one")
	if _, err := os.ReadFile(root + "/program"); err != nil {
		t.Fatal(err)
	}
	c.plugin("plugin.json", "delete", "one")

	publish := func(flags ...string) (string, error) {
		out, err := exec.Command(s.bin+"/rootstock", append([]string{"profile", "publish", "--store", s.store, "--keys", s.keys, "--json", "https://" + listen}, flags...)...).CombinedOutput()
		return string(out), err
	}
	var done struct{ Trees []string }
	for deadline := time.Now().Add(patience); len(done.Trees) == 0; time.Sleep(10 * time.Millisecond) {
		out, err := publish("--ca", certs+"/ca.pem", "--cert", certs+"/client.pem", "--key", certs+"/client.key")
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%v: %s", err, out)
		}
		must(t, json.Unmarshal([]byte(out), &done))
	}
	for why, flags := range map[string][]string{
		"certificate required": {"--ca", certs + "/ca.pem"},
		"certificate":          {"--cert", certs + "/client.pem", "--key", certs + "/client.key"}, // of an authority nobody knows
	} {
		if out, err := publish(flags...); err == nil || !strings.Contains(out, why) || !strings.Contains(out, "profiles of https://"+listen) {
			t.Errorf("%v: %v, %s", flags, err, out)
		}
	}
}
