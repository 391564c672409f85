package e2e_test

import (
	"archive/tar"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// way is how containers get a tree: everything that a container can tell must
// be the same on each.
type way struct{ tier, ids string }

func (w way) String() string { return w.tier + " tier, ids by the " + w.ids }

// ways are those that this machine has.
func ways(t *testing.T) []way {
	t.Helper()
	all := []way{{cell.TierTree, cell.IDsDaemon}, {cell.TierTree, cell.IDsKernel}}
	if tier(t) == cell.TierImage {
		all = append(all, way{cell.TierImage, cell.IDsKernel})
	}
	return all
}

// outsideID is in Guardian's mapping and not in the other one of the test.
const outsideID = 70000

// powers writes a tree of the machine's own programs, some of which give those
// who start them another identity or a capability.
func powers(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	must(t, err)
	w := tar.NewWriter(f)
	add := func(h tar.Header, from string) {
		t.Helper()
		var text []byte
		if h.Typeflag == tar.TypeReg && from != "" {
			text, err = os.ReadFile(from)
			must(t, err)
		}
		h.Size, h.Format = int64(len(text)), tar.FormatPAX
		must(t, w.WriteHeader(&h))
		_, err := w.Write(text)
		must(t, err)
	}
	for _, d := range []string{"etc", "proc", "dev", "tmp", "bin", "p"} {
		add(tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}, "")
	}
	have := map[string]bool{}
	libraries := regexp.MustCompile(`(/\S+)`)
	for _, name := range []string{"sh", "cat", "id", "stat", "chown", "chmod", "mv"} {
		path, err := exec.LookPath(name)
		must(t, err)
		add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeReg, Mode: 0o755}, path)
		for _, lib := range libraries.FindAllString(run(t, "", "ldd", path), -1) {
			if !have[lib] {
				have[lib] = true
				add(tar.Header{Name: lib[1:], Typeflag: tar.TypeReg, Mode: 0o755}, lib)
			}
		}
	}
	id, err := exec.LookPath("id")
	must(t, err)
	cat, err := exec.LookPath("cat")
	must(t, err)
	// CAP_DAC_OVERRIDE, permitted and effective (linux/capability.h).
	able := map[string]string{"SCHILY.xattr.security.capability": ableFor(nil)}
	for _, h := range []struct {
		name     string
		uid, gid int
		mode     int64
		from     string
		pax      map[string]string
	}{
		{"setuid", 1000, 1001, 0o6755, id, nil},
		{"setroot", 0, 0, 0o4755, id, nil},
		{"setoutside", outsideID, outsideID, 0o6755, id, nil},
		{"able", 0, 0, 0o755, cat, able},
		{"secret", 0, 0, 0o600, "testdata/secret", nil},
		{"own", 1000, 1000, 0o600, "testdata/secret", nil},
		{"outside", outsideID, outsideID, 0o600, "testdata/secret", nil},
	} {
		add(tar.Header{
			Name: "p/" + h.name, Typeflag: tar.TypeReg, Mode: h.mode, Uid: h.uid, Gid: h.gid, PAXRecords: h.pax,
		}, h.from)
	}
	must(t, w.Close())
	must(t, f.Close())
}

// ableFor is the attribute of p/able as the host sees it.
func ableFor(mapping []overlay.IDRange) string {
	const bits = "\x02\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	if mapping == nil {
		return "\x01\x00\x00\x02" + bits
	}
	return string(binary.LittleEndian.AppendUint32([]byte("\x01\x00\x00\x03"+bits), mapping[0].Host))
}

// said is what a script says in a container, as a user, with errors.
func (c *cellDaemon) said(name, root string, mapping []overlay.IDRange, uid int, script string) string {
	c.t.Helper()
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_KILL",
	}
	capabilities := map[string]any{"bounding": caps}
	if uid == 0 {
		capabilities["effective"], capabilities["permitted"] = caps, caps
	}
	type object = map[string]any
	linux := object{"namespaces": []object{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}}
	if mapping != nil {
		ids := []object{}
		for _, r := range mapping {
			ids = append(ids, object{"containerID": r.Container, "hostID": r.Host, "size": r.Size})
		}
		linux["namespaces"] = append(linux["namespaces"].([]object), object{"type": "user"})
		linux["uidMappings"], linux["gidMappings"] = ids, ids
	}
	text, err := json.Marshal(object{
		"ociVersion": "1.0.2", "root": object{"path": root}, "linux": linux,
		"process": object{
			"user": object{"uid": uid, "gid": uid}, "args": []string{"/bin/sh", "-c", script}, "cwd": "/",
			"env": []string{"PATH=/bin", "LC_ALL=C"}, "capabilities": capabilities,
		},
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=64k"}},
		},
	})
	must(c.t, err)
	bundle, err := os.MkdirTemp(c.dir, "bundle-")
	must(c.t, err)
	must(c.t, os.Chmod(bundle, 0o755))
	must(c.t, os.WriteFile(bundle+"/config.json", text, 0o600))
	return run(c.t, bundle, "runc", "--root", c.dir+"/runc", "run", "--bundle", bundle, name)
}

// Programs with set-id bits or capabilities, and files of whatever owner, are in
// a container what they are in its source, on every way and in every mapping.
func TestUserNamespaces(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	file := filepath.Join(s.dir, "tree.tar")
	powers(t, file)
	s.publish(t, "rootfs", "powers", "1", file)
	for _, w := range ways(t) {
		c := s.cell(t, "--tier", w.tier, "--id-mapping", w.ids)
		if err := overlay.CanMap(c.dir + "/mnt"); err != nil && w == (way{cell.TierTree, cell.IDsKernel}) {
			t.Run(w.String(), func(t *testing.T) { t.Skipf("SKIPPED: %v", err) })
			c.stop()
			continue
		}
		if st := c.status(); st.Tier != w.tier || st.IDMapping != w.ids || st.MappingWhy != "configured" {
			t.Errorf("%s: status says %s, %s, %s", w, st.Tier, st.IDMapping, st.MappingWhy)
		}
		for name, mapping := range map[string][]overlay.IDRange{
			"privileged": nil, "guardian": guardian, "high": {{Container: 0, Host: 100000, Size: 65536}},
		} {
			t.Run(w.String()+", "+name, func(t *testing.T) { c.powers(t, name, mapping) })
		}
		c.stop()
		c.nothingMounted("")
	}
}

func (c *cellDaemon) powers(t *testing.T, name string, mapping []overlay.IDRange) {
	c.config(name+".json", mapping)
	root := c.create(name+".json", "rootfs/powers", name)
	defer c.plugin(name+".json", "delete", name)
	outside, access, become := "70000:70000", "secret", "70000:70000"
	if name == "high" {
		outside, access, become = "65534:65534", "Permission denied", "2000:2000"
	}
	// Twice: from the tree, and when the write layer has them.
	for _, from := range []string{"lower", "upper"} {
		// The capability counts for the container's root and below, and
		// for no other container's.
		value := make([]byte, 64)
		n, err := unix.Getxattr(filepath.Join(root, "p/able"), "security.capability", value)
		if want := ableFor(mapping); err != nil || string(value[:n]) != want {
			t.Errorf("from the %s, the capability is %x, %v, want %x", from, value[:max(n, 0)], err, want)
		}
		for _, try := range []struct {
			uid  int
			says map[string]string // by command
		}{
			{0, map[string]string{
				"stat -c %u:%g:%a /p/setuid /p/setroot /p/own": "1000:1001:6755 0:0:4755 1000:1000:600",
				"stat -c %u:%g /p/outside":                     outside,
				"cat /p/secret":                                "secret",
				"cat /p/outside":                               access,
			}},
			{2000, map[string]string{
				"cat /p/secret":              "Permission denied",
				"cat /p/own":                 "Permission denied",
				"/p/able /p/secret":          "secret",
				"/p/able /p/own":             "secret",
				"/p/able /p/outside":         access,
				"/p/setuid -u; /p/setuid -g": "1000 1001",
				"/p/setroot -u":              "0",
				"echo $(/p/setoutside -u):$(/p/setoutside -g)": become,
			}},
			{1000, map[string]string{"cat /p/own": "secret"}},
		} {
			commands := slices.Sorted(maps.Keys(try.says))
			var script strings.Builder
			for _, command := range commands {
				fmt.Fprintf(&script, "echo \"$(%s 2>&1 | cat)\" | { read -r a; b=; while read -r x; do b=\"$b $x\"; done; echo \"$a$b\"; }\n", command)
			}
			lines := strings.Split(strings.TrimSuffix(c.said(name, root, mapping, try.uid, script.String()), "\n"), "\n")
			for i, command := range commands {
				got := ""
				if i < len(lines) {
					got = lines[i]
				}
				if want := try.says[command]; got != want && !(want == "Permission denied" && strings.HasSuffix(got, want)) {
					t.Errorf("from the %s, %s as %d: %q, want %q", from, command, try.uid, got, want)
				}
			}
		}
		if from == "lower" {
			// Only metadata changes: owners, bits and capabilities come along.
			c.said(name, root, mapping, 0, "for f in setuid setroot own secret able; do chmod u+r /p/$f; done")
			if _, err := os.Stat(filepath.Join(root, "../upper/p/able")); err != nil {
				t.Errorf("not copied up: %v", err)
			}
		}
	}
}
