package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// rollout moves a channel ring by ring on the cells that answer: each decides by
// itself, and what is said beforehand is what they do.
func (f *fleetSite) rollout(t *testing.T) {
	f.publish("4", "20")
	set := func(code int, args ...string) string {
		t.Helper()
		args = append([]string{"channel", "set", "rootfs/demo", "stable"}, args...)
		return f.tool(t, code, append(args, "--store", f.s.store, "--keys", f.s.keys, "--auto-tag=false")...)
	}
	status := func(want ...string) string {
		t.Helper()
		said := f.fleet(t, 0, "channel", "status", "rootfs/demo", "--store", f.s.store, "--cells", f.list)
		for _, want := range want {
			wantLine(t, said, want)
		}
		return said
	}
	set(0, "4", "--ring", "canary=zone=z1", "--ring", "early=50%")
	status(`cell 10\.91\.7\.29:8443 did not answer`, `18 cells: 4 in open rings, 4 of them have not seen it yet`)
	f.refresh(t)
	first := f.moved(t, "r1")
	for i := range stopped {
		if first[i] != (i%zones == 0) {
			t.Errorf("cell %d follows the rollout: %v", i, first[i])
		}
	}
	said := status(`ring canary=100%,zone=z1 +open +4 cells`, `18 cells: 4 in open rings, 0 of them have not seen it yet, 0 know no rings`, `on 4: 4 containers run, 0 ended`)
	joining := regexp.MustCompile(`next: --promote opens ring early=50%, (\d+) cells more`).FindStringSubmatch(said)
	if joining == nil {
		t.Fatalf("what comes next is not in\n%s", said)
	}
	more, err := strconv.Atoi(joining[1])
	must(t, err)

	set(0, "--promote")
	f.refresh(t)
	second, now := f.moved(t, "r2"), 0
	for i, moved := range second {
		if first[i] && !moved {
			t.Errorf("cell %d went back", i)
		}
		if moved {
			now++
		}
	}
	if now != 4+more {
		t.Errorf("%d cells follow, %d and %d more were said to", now, 4, more)
	}
	set(0, "--halt")
	wantLine(t, set(1, "--promote"), `halted since`)
	f.tool(t, 0, "channel", "rollback", "rootfs/demo", "stable", "--store", f.s.store, "--keys", f.s.keys, "--auto-tag=false")
	f.refresh(t)
	for i, moved := range f.moved(t, "r3") {
		if moved {
			t.Errorf("cell %d did not come back", i)
		}
	}
	// A container that took the new version is behind now, if its cell answers.
	wantLine(t, f.fleet(t, 4, "fleet"), fmt.Sprintf(`demo:stable +4 +\w+ +%d +%d +%d `, 4+now, now, 4+now))
}

// refresh has the cells that can be asked look for a new revision.
func (f *fleetSite) refresh(t *testing.T) {
	t.Helper()
	f.all(func(i int) {
		if i < stopped {
			f.ask(t, 0, i, "refresh")
		}
	})
}

// moved makes a container by the channel on every cell that answers, and says
// which of them got version 4.
func (f *fleetSite) moved(t *testing.T, which string) []bool {
	t.Helper()
	got := make([]bool, stopped)
	f.all(func(i int) {
		if i >= stopped {
			return
		}
		root := f.cells[i].create("plugin.json", "rootfs/demo:stable", handle(i, which))
		text, err := os.ReadFile(filepath.Join(root, "usr/share/late"))
		if err != nil {
			t.Errorf("cell %d: %v", i, err)
		}
		got[i] = string(text) == "late of version 4\n"
	})
	return got
}

// droplet starts an app on two cells from the layout that Guardian writes for
// preloaded+layer, with bcrypt 4.0.1 in its droplet, and audits for it.
func (f *fleetSite) droplet(t *testing.T) {
	dir := filepath.Join(f.s.dir, "droplet")
	for name, text := range map[string]string{
		"app/node_modules/bcrypt/package.json": `{"name":"bcrypt","version":"4.0.1"}`, "staging_info.yml": "{}",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, "tree", name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "tree", name), []byte(text), 0o644))
	}
	run(t, dir, "tar", "-C", "tree", "--mtime=@1700000000", "--sort=name", "-czf", "droplet.tgz", ".")
	blobs := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(blobs.Close)
	for _, i := range []int{6, 7} {
		c := f.cells[i]
		text, err := json.Marshal(map[string]any{
			"store": c.dir + "/containers", "socket": c.dir + "/cell.sock", "stacks": map[string]string{"demo": "cvmfs://" + siteName + "/rootfs/demo:stable"},
		})
		must(t, err)
		must(t, os.WriteFile(c.dir+"/stacks.json", text, 0o600))
		c.plugin("stacks.json", "thin-tars", c.dir+"/stacks")
		layout := writeLayout(t, c.dir+"/layout", c.dir+"/stacks/demo.tar", filepath.Join(dir, "droplet.tgz"), blobs.URL+"/droplet.tgz")
		c.plugin("stacks.json", "create", "oci://"+layout, handle(i, "d"))
		f.gardens[i].Diego(handle(i, "d"), "app-droplet", "space-1", "org-1", "crypt", "prod", "acme")
	}
	said := f.fleet(t, 3, "audit", "pkg:npm/bcrypt < 5.0.0", "--store", f.s.store)
	for _, want := range []string{
		`(?m)^droplet sha256:[0-9a-f]{64}$`, `package +bcrypt 4\.0\.1 +\(app/node_modules/bcrypt/package\.json\)`,
		`cell +cell-06: c-06-d$`, `cell +cell-07: c-07-d$`, `app +app-droplet \(acme / prod / crypt\)`,
		`1 of 1 droplets; 2 of \d+ containers on 2 of 18 cells affected, 2 cells did not answer`,
	} {
		wantLine(t, said, "(?m)"+want)
	}
	wantLine(t, f.fleet(t, 4, "audit", "pkg:npm/bcrypt < 4.0.0", "--store", f.s.store), `0 of 1 droplets`)
}

// writeLayout makes what Guardian's depot holds of an app's image: a link to the
// stack, and a layer that is fetched from at.
func writeLayout(t *testing.T, dir, stack, droplet, at string) string {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	must(t, os.MkdirAll(blobs, 0o755))
	put := func(v any) map[string]any {
		text, err := json.Marshal(v)
		must(t, err)
		sum := sha256.Sum256(text)
		must(t, os.WriteFile(filepath.Join(blobs, hex.EncodeToString(sum[:])), text, 0o644))
		return map[string]any{"digest": "sha256:" + hex.EncodeToString(sum[:]), "size": len(text)}
	}
	text, err := os.ReadFile(droplet)
	must(t, err)
	sum, base := sha256.Sum256(text), sha256.Sum256([]byte(stack))
	must(t, os.Symlink(stack, filepath.Join(blobs, hex.EncodeToString(base[:]))))
	manifest := put(map[string]any{"schemaVersion": 2, "config": put(map[string]any{}), "layers": []any{
		map[string]any{"digest": "sha256:" + hex.EncodeToString(base[:])},
		map[string]any{
			"digest": "sha256:" + hex.EncodeToString(sum[:]), "size": len(text), "urls": []string{at},
			"annotations": map[string]string{"org.cloudfoundry.experimental.image.base-directory": "/home/vcap"},
		},
	}})
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644))
	return dir
}
