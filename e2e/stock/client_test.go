package stock_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/e2e/rig"
)

// stockMount is a mount by the stock client.
type stockMount struct {
	dir, cache string
	process    *rig.Process
}

// mountStock mounts r, served at url, with the stock client in the foreground
// and a cache of its own. It reads the same kind of file that
// --cvmfs-config does.
func mountStock(t *testing.T, r repo, url string) *stockMount {
	t.Helper()
	dir := t.TempDir()
	m := &stockMount{dir: filepath.Join(dir, "mnt"), cache: filepath.Join(dir, "cache")}
	for _, d := range []string{m.dir, m.cache, filepath.Join(dir, "run")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "config")
	text := fmt.Sprintf(`CVMFS_SERVER_URL=%s
CVMFS_HTTP_PROXY=DIRECT
CVMFS_PUBLIC_KEY=%s
CVMFS_CACHE_DIR=%s
CVMFS_SHARED_CACHE=no
CVMFS_RELOAD_SOCKETS=%s
CVMFS_MOUNT_DIR=%s
CVMFS_USER=root
CVMFS_CLAIM_OWNERSHIP=no
`, url, r.publicKey(), m.cache, filepath.Join(dir, "run"), dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := stockInPlace("cvmfs2", "-f", "-o", "config="+config+",allow_other,simple_options_parsing,disable_watchdog", repoName, m.dir)
	cmd.Dir = build
	m.process = rig.Start(t, cmd)
	m.process.Until("the mount", func() bool { return rig.Mounted(m.dir) })
	t.Cleanup(func() { m.unmount(t) })
	return m
}

// unmount ends the mount and its process, and only then its cache is at rest.
func (m *stockMount) unmount(t *testing.T) {
	t.Helper()
	if !rig.Mounted(m.dir) {
		return
	}
	if err := unix.Unmount(m.dir, 0); err != nil {
		t.Errorf("unmount %s: %v", m.dir, err)
		unix.Unmount(m.dir, unix.MNT_DETACH) //nolint:errcheck // tried
	}
	if err := m.process.Wait(); err != nil {
		t.Errorf("stock client: %v\n%s", err, m.process.Said())
	}
}

var verified = regexp.MustCompile(`Verified (\d+) files`)

// fsck unmounts and has the stock checker compress and compare every file of
// the stock client's cache: bytes that another encoder made would not pass.
func (m *stockMount) fsck(t *testing.T) {
	t.Helper()
	m.unmount(t)
	out, err := stock("cvmfs_fsck", m.cache).CombinedOutput()
	if err != nil {
		t.Errorf("stock fsck of its client's cache: %v\n%s", err, out)
		return
	}
	found := verified.FindSubmatch(out)
	if found == nil {
		t.Errorf("stock fsck: %s", out)
		return
	}
	if n, err := strconv.Atoi(string(found[1])); err != nil || n < 10 {
		t.Errorf("stock fsck looked at %s files", found[1])
	}
}

// mountOurs mounts with our client.
func mountOurs(t *testing.T, r repo, url string) string {
	t.Helper()
	dir, _ := rig.Cell(t, bin, nil, "--url", url, "--name", repoName, "--key", r.publicKey())
	return dir
}

// list lists a mount without what trees say of themselves: the stock client
// lists those attributes, ours answers them only.
func list(t *testing.T, tools rig.Tools, root string) string {
	t.Helper()
	file := tools.List(t, root)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for line := range bytes.Lines(raw) {
		var entry map[string]any
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&entry); err != nil {
			t.Fatal(err)
		}
		if attrs, ok := entry["xattrs"].(map[string]any); ok {
			maps.DeleteFunc(attrs, func(name string, _ any) bool { return strings.HasPrefix(name, "user.rootstock.") })
			if len(attrs) == 0 {
				delete(entry, "xattrs")
			}
		}
		line, err := json.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, line...), '\n')
	}
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// xattr reads an attribute, or fails the test.
func xattr(t *testing.T, path, name string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(path, name, buf)
	if err != nil {
		t.Errorf("%s: %s: %v", path, name, err)
		return ""
	}
	return strings.TrimSuffix(string(buf[:n]), "\n")
}

// sameMagic compares the computed attributes that do not depend on what a
// client has done so far.
func sameMagic(t *testing.T, theirs, ours string) {
	t.Helper()
	for path, names := range map[string]string{
		"":                            "user.fqrn user.revision user.root_hash user.repo_counters user.tag user.host user.host_list user.proxy",
		"/rootfs/demo/1/etc/text":     "user.hash user.chunks user.chunk_list user.compression user.direct_io user.external_file user.catalog_counters",
		"/rootfs/demo/1/usr/bin/big":  "user.chunks user.chunk_list user.compression",
		"/rootfs/demo/1/etc/variable": "xfsroot.rawlink",
	} {
		for name := range strings.FieldsSeq(names) {
			a, b := xattr(t, theirs+path, name), xattr(t, ours+path, name)
			if a != b {
				t.Errorf("%s of %q: stock %q, ours %q", name, path, a, b)
			}
		}
	}
	text := ours + "/rootfs/demo/1/etc/text"
	if local, stored := xattr(t, text, "user.lhash"), xattr(t, text, "user.hash"); local != stored {
		t.Errorf("user.lhash %q, user.hash %q", local, stored)
	}
}
