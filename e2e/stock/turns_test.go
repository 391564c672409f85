package stock_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/e2e/rig"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// Our publisher, stock's ingestion of a tarball and stock's synchronisation of
// an overlay take turns on one repository. It stays sound, everybody's trees and
// tags stay, and both clients show the same, snapshots included.
func TestTurns(t *testing.T) {
	needStock(t)
	tools := needTools(t)
	r := ours(t, "zlib", "shake128")
	x := newTurn(t, r)

	x.ingest("stock/one", source(t, 7))
	x.sign("ingested")
	publish(t, r, "2", source(t, 2))
	r.check(t, r.reflogChecksum(t))

	x = newTurn(t, r)
	x.sync(func(union string) {
		dir := filepath.Join(union, "made/by/sync")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"../.cvmfscatalog": "", "file": "hello\n", "chunked": strings.Repeat("0123456789abcdef", 1<<20+1)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setxattr(filepath.Join(dir, "file"), "user.note", []byte("kept"), 0); err != nil {
			t.Fatal(err)
		}
	})
	x.sign("synchronised")
	publish(t, r, "3", source(t, 3))
	r.check(t, r.reflogChecksum(t))

	tags := swissknife(t, "tag_list", "-x", "-w", r.url, "-t", t.TempDir(), "-p", r.publicKey(), "-f", repoName)
	for _, tag := range []string{"ingested ", "synchronised ", "trunk ", "trunk-previous "} {
		if !strings.Contains(tags, tag) {
			t.Errorf("no tag %s in\n%s", tag, tags)
		}
	}

	theirs := mountStock(t, r, r.url)
	ours := mountOurs(t, r, r.url)
	want := list(t, tools, theirs.dir)
	tools.Same(t, "stock client (A), ours (B)", want, list(t, tools, ours))
	for _, path := range []string{"/rootfs/demo/1/etc/motd", "/rootfs/demo/3/etc/motd", "/stock/one/etc/motd", "/made/by/sync/chunked"} {
		if _, err := os.Stat(ours + path); err != nil {
			t.Errorf("after everybody's turn: %v", err)
		}
	}
	const snapshot = "/.cvmfs/snapshots/ingested"
	tools.Same(t, "a snapshot: stock client (A), ours (B)", list(t, tools, theirs.dir+snapshot), list(t, tools, ours+snapshot))
	if _, err := os.Stat(ours + snapshot + "/rootfs/demo/2"); err == nil {
		t.Error("the snapshot shows what was published after it")
	}
	theirs.fsck(t)

	one, reflog := pull(t, r)
	one.check(t, reflog)
}

// made makes an empty repository with the stock tools.
func made(t *testing.T) repo {
	t.Helper()
	dir, keys, master := newKeys(t)
	r := repo{dir: filepath.Join(t.TempDir(), "store"), keys: dir}
	x := &turn{t: t, r: r, work: t.TempDir(), spool: r.spool(t)}
	w := manifest.Whitelist{
		Name: repoName, Created: time.Now(), Expires: time.Now().AddDate(0, 1, 0),
		Fingerprints: []object.Hash{keys.Certificate.Fingerprint(object.SHA1)},
	}
	raw, err := w.Sign(master, object.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, manifest.WhitelistName), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	r.url = rig.Serve(t, r.dir)
	x.r, x.reflog = r, filepath.Join(x.work, "reflog.chksum")
	swissknife(t, "create", "-o", x.manifest(), "-t", x.work, "-r", x.spool, "-n", repoName, "-R", x.reflog, "-z")
	x.signWith(nil)
	return r
}

// A repository that stock tools made becomes one of ours by publishing into it.
func TestStockMade(t *testing.T) {
	needStock(t)
	tools := needTools(t)
	r := made(t)
	publish(t, r, "1", source(t, 1))
	r.check(t, r.reflogChecksum(t))
	theirs := mountStock(t, r, r.url)
	tools.Same(t, "stock client (A), ours (B)", list(t, tools, theirs.dir), list(t, tools, mountOurs(t, r, r.url)))
	theirs.fsck(t)
	x := newTurn(t, r)
	x.ingest("stock", source(t, 4))
	x.sign("after")
	publish(t, r, "2", source(t, 2))
	r.check(t, r.reflogChecksum(t))
}

// turn is one transaction of the stock publisher, step by step as cvmfs_server
// does it but without its installation.
type turn struct {
	t                         *testing.T
	r                         repo
	work, spool, base, reflog string
}

func newTurn(t *testing.T, r repo) *turn {
	t.Helper()
	return &turn{t: t, r: r, work: t.TempDir(), spool: r.spool(t), base: r.body(t, "C"), reflog: r.reflogChecksum(t)}
}

func (x *turn) manifest() string { return filepath.Join(x.work, "manifest") }

func (x *turn) dir(name string) string {
	x.t.Helper()
	d := filepath.Join(x.work, name)
	if err := os.MkdirAll(d, 0o755); err != nil {
		x.t.Fatal(err)
	}
	return d
}

// ingest puts a tarball below base, with a catalog of its own.
func (x *turn) ingest(base, tar string) {
	x.t.Helper()
	swissknife(x.t, "ingest", "-b", x.base, "-c", x.dir("rdonly"), "-u", x.dir("union"), "-t", x.dir("tmp"), "-o", x.manifest(),
		"-r", x.spool, "-w", x.r.url, "-K", x.r.publicKey(), "-N", repoName, "-T", tar, "-B", base, "-C", "true")
}

// sync publishes what change does to an overlay over a stock client's mount,
// and then the directory of snapshots, as a second revision, if there is a history.
func (x *turn) sync(change func(union string)) {
	x.t.Helper()
	lower := mountStock(x.t, x.r, x.r.url)
	union, scratch := x.dir("union"), x.dir("scratch")
	if err := unix.Mount("overlay", union, "overlay", 0, "xino=off,index=off,metacopy=off,redirect_dir=off,lowerdir="+lower.dir+
		",upperdir="+scratch+",workdir="+x.dir("ofs")); err != nil {
		x.t.Fatal(err)
	}
	defer lower.unmount(x.t)
	defer unix.Unmount(union, 0) //nolint:errcheck // below the test's directory, which cannot be removed otherwise
	change(union)
	args := []string{
		"sync", "-u", union, "-s", scratch, "-c", lower.dir, "-t", x.dir("tmp"), "-r", x.spool, "-w", x.r.url, "-o", x.manifest(),
		"-K", x.r.publicKey(), "-N", repoName, "-e", "shake128", "-f", "overlayfs", "-p", "-l", "4194304", "-a", "8388608", "-h", "16777216", "-k", "-i",
	}
	swissknife(x.t, append(args, "-b", x.base)...)
	if x.r.line(x.t, "H") == "" {
		return
	}
	next := repo{dir: x.work}
	if err := os.Link(x.manifest(), filepath.Join(x.work, manifest.FileName)); err != nil {
		x.t.Fatal(err)
	}
	swissknife(x.t, append(args, "-b", next.body(x.t, "C"), "-S", "snapshots")...)
}

// sign tags what was made and makes it the newest revision.
func (x *turn) sign(tag string) {
	x.t.Helper()
	swissknife(x.t, "tag_edit", "-r", x.spool, "-w", x.r.url, "-t", x.dir("tmp"), "-m", x.manifest(), "-p", x.r.publicKey(), "-f", repoName,
		"-b", x.base, "-x", "-a", tag)
	x.signWith(x.metainfo())
	x.r.check(x.t, x.reflog)
}

// metainfo is that of the newest revision, unpacked; nil if there is none.
func (x *turn) metainfo() []byte {
	x.t.Helper()
	m := x.r.line(x.t, "M")
	if m == "" {
		return nil
	}
	packed, err := os.Open(filepath.Join(x.r.dir, "data", m[:2], m[2:]+"M"))
	if err != nil {
		x.t.Fatal(err)
	}
	defer packed.Close()
	unpack := stock("cvmfs_swissknife", "zpipe", "-d")
	unpack.Stdin = packed
	meta, err := unpack.Output()
	if err != nil {
		x.t.Fatal(err)
	}
	return meta
}

// signWith signs as the release manager, and stores meta as the metainfo unless
// it is nil.
func (x *turn) signWith(meta []byte) {
	x.t.Helper()
	args := []string{
		"sign", "-c", filepath.Join(x.r.keys, repoName+".crt"), "-k", filepath.Join(x.r.keys, repoName+".key"), "-n", repoName,
		"-m", x.manifest(), "-u", x.r.url, "-t", x.dir("tmp"), "-r", x.spool, "-R", x.reflog, "-g",
	}
	if meta != nil {
		file := filepath.Join(x.work, "meta.json")
		if err := os.WriteFile(file, meta, 0o600); err != nil {
			x.t.Fatal(err)
		}
		args = append(args, "-M", file)
	}
	swissknife(x.t, args...)
}
