package stock_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rootstock-cf/rootstock/e2e/rig"
)

// A repository of ours is sound to the stock checker, a stock stratum 1
// replicates it to the byte, and both clients show the same tree from both.
func TestOursWithStock(t *testing.T) {
	needStock(t)
	tools := needTools(t)
	for name, tc := range map[string]struct{ compression, hash string }{
		"zlib": {"zlib", "shake128"}, "none": {"none", "sha1"},
	} {
		t.Run(name, func(t *testing.T) {
			zero := ours(t, tc.compression, tc.hash)
			publish(t, zero, "2", source(t, 2))
			zero.check(t, zero.reflogChecksum(t))
			one, reflog := pull(t, zero)
			one.check(t, reflog)
			sameObjects(t, zero.dir, one.dir)

			theirs := mountStock(t, zero, zero.url)
			ours := mountOurs(t, zero, zero.url)
			want := list(t, tools, theirs.dir)
			tools.Same(t, "stratum 0: stock client (A), ours (B)", want, list(t, tools, ours))
			sameMagic(t, theirs.dir, ours)
			theirs.fsck(t)

			theirs = mountStock(t, one, one.url)
			tools.Same(t, "stock client: stratum 0 (A), stratum 1 (B)", want, list(t, tools, theirs.dir))
			theirs.fsck(t)
			tools.Same(t, "stratum 1: stock client (A), ours (B)", want, list(t, tools, mountOurs(t, one, one.url)))
		})
	}
}

// A zstd repository is sound to the stock checker and carried by a stock
// stratum 1; our client reads it there, and the stock client gets an error and
// no wrong bytes.
func TestZstdWithStock(t *testing.T) {
	needStock(t)
	tools := needTools(t)
	zero := ours(t, "zstd", "shake128")
	zero.check(t, zero.reflogChecksum(t))
	one, reflog := pull(t, zero)
	one.check(t, reflog)
	sameObjects(t, zero.dir, one.dir)
	tools.Same(t, "our client: stratum 0 (A), stratum 1 (B)",
		list(t, tools, mountOurs(t, zero, zero.url)), list(t, tools, mountOurs(t, one, one.url)))
	theirs := mountStock(t, one, one.url)
	if _, err := os.ReadFile(filepath.Join(theirs.dir, "rootfs/demo/1/etc/text")); !errors.Is(err, syscall.EIO) {
		t.Errorf("the stock client reads a zstd file: %v", err)
	}
	if target, err := os.Readlink(filepath.Join(theirs.dir, "rootfs/demo/1/etc/link")); target != "motd" {
		t.Errorf("the stock client reads a link: %q, %v", target, err)
	}
}

// pull makes a stratum 1 with the stock tools and returns it with the checksum
// of its own reflog.
func pull(t *testing.T, zero repo) (one repo, reflog string) {
	t.Helper()
	one = repo{dir: filepath.Join(t.TempDir(), "stratum1"), keys: zero.keys}
	spool := one.spool(t)
	one.url = rig.Serve(t, one.dir)
	temp := t.TempDir()
	reflog = filepath.Join(temp, "reflog.chksum")
	swissknife(t, "pull", "-m", repoName, "-u", zero.url, "-w", one.url, "-r", spool, "-k", zero.publicKey(),
		"-x", temp, "-R", reflog, "-n", "4", "-i")
	return one, reflog
}

// spool makes the directories that stock expects of a local storage and returns
// how it is told about it.
func (r repo) spool(t *testing.T) string {
	t.Helper()
	dirs := []string{"txn"}
	for i := range 256 {
		dirs = append(dirs, string("0123456789abcdef"[i>>4])+string("0123456789abcdef"[i&15]))
	}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(r.dir, "data", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return "local," + filepath.Join(r.dir, "data/txn") + "," + r.dir
}

// sameObjects compares all objects and the signed root files: stock compresses
// certificate and metainfo anew and has to arrive at our bytes.
func sameObjects(t *testing.T, zero, one string) {
	t.Helper()
	kinds := map[byte]int{}
	err := filepath.WalkDir(one, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel := strings.TrimPrefix(path, one)
		if !strings.HasPrefix(rel, "/data/") && rel != "/.cvmfspublished" && rel != "/.cvmfswhitelist" {
			return nil
		}
		a, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(zero + rel)
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs on stratum 1: %v", rel, err)
		}
		kinds[rel[len(rel)-1]]++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, kind := range []byte("CXHMP") {
		if kinds[kind] == 0 {
			t.Errorf("no object of kind %c was replicated: %v", kind, kinds)
		}
	}
}
