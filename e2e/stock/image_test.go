package stock_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/e2e/rig"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// What stock's publisher unpacked is shown in a container, on either tier, as the
// stock client shows it.
func TestStockImage(t *testing.T) {
	needStock(t)
	r := made(t)
	x := newTurn(t, r)
	const flat = ".flat/ab/abcdef"
	x.sync(func(union string) {
		root := filepath.Join(union, flat)
		at := func(p string) string { return filepath.Join(root, p) }
		must(t, os.MkdirAll(at("usr/share/doc"), 0o755))
		must(t, os.MkdirAll(filepath.Join(union, "registry.example.org/library"), 0o755))
		must(t, os.Symlink("../../"+flat, filepath.Join(union, "registry.example.org/library/app:1")))
		big := strings.Repeat("0123456789abcdef", 1<<20+1)
		for name, text := range map[string]string{
			".cvmfscatalog": "", "usr/share/.cvmfscatalog": "", "usr/share/doc/text": "text\n", "usr/big": big, "empty": "",
			"usr/one": "one inode", "able": "#!/bin/sh\n", "\xff odd:name,": "odd", "usr/same": "text\n",
		} {
			must(t, os.WriteFile(at(name), []byte(text), 0o644))
		}
		must(t, os.Link(at("usr/one"), at("usr/two")))
		must(t, os.Symlink("$(ROOTSTOCK_UNSET:-usr)/one", at("link")))
		must(t, unix.Setxattr(at("able"), "user.note", []byte("kept"), 0))
		must(t, unix.Setxattr(at("able"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
		must(t, unix.Mkfifo(at("fifo"), 0o620))
		must(t, os.Chown(at("usr/share"), 1000, 70_000))
		must(t, os.Chmod(at("usr/same"), 0o4755))
	})
	x.signWith(nil)

	theirs := mountStock(t, r, r.url)
	want := withoutMarkers(rig.Walk(t, filepath.Join(theirs.dir, flat)))
	if len(want) < 14 {
		t.Fatalf("the stock client shows %d entries", len(want))
	}
	for _, tier := range []string{"tree", "image"} {
		got := withoutMarkers(rig.Walk(t, container(t, r, tier, "-/registry.example.org/library/app:1")))
		top := got["."]
		top.Links = want["."].Links // of a directory that is merged with the write layer
		got["."] = top
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-stock client +container on the %s tier:\n%.6000s", tier, d)
		}
	}
}

func withoutMarkers(all map[string]rig.Seen) map[string]rig.Seen {
	maps.DeleteFunc(all, func(name string, _ rig.Seen) bool { return path.Base(name) == ".cvmfscatalog" })
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// container starts a cell of a tier, and has the plugin make a container.
func container(t *testing.T, r repo, tier, ref string) string {
	t.Helper()
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	_, p := rig.Cell(t, bin, nil, "--url", r.url, "--name", repoName, "--key", r.publicKey(), "--tier", tier, "--socket", dir+"/s", "--run", run)
	t.Cleanup(func() {
		p.End()
		left, err := filepath.Glob(run + "/trees/*")
		must(t, err)
		for _, m := range append(left, run+"/objects") {
			if _, err := overlay.Unmount(t.Context(), m); err != nil {
				t.Error(err)
			}
		}
	})
	config := filepath.Join(dir, "plugin.json")
	must(t, os.WriteFile(config, []byte(`{"store": "`+dir+`/containers", "socket": "`+dir+`/s"}`), 0o600))
	plugin := func(args ...string) []byte {
		out, err := exec.Command(filepath.Join(bin, "rootstock-plugin"), append([]string{"--config", config}, args...)...).Output()
		if err != nil {
			t.Errorf("plugin %v: %v, the cell said\n%s", args, err, p.Said())
		}
		return out
	}
	var spec struct{ Root struct{ Path string } }
	must(t, json.Unmarshal(plugin("create", "cvmfs://"+repoName+"/"+ref, "h"), &spec))
	t.Cleanup(func() { plugin("delete", "h") })
	if said := p.Said(); strings.Contains(said, "gets the tree tier") {
		t.Errorf("the cell said\n%s", said)
	}
	return spec.Root.Path
}
