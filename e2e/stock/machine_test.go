package stock_test

import (
	"context"
	"crypto/rsa"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/e2e/rig"
	"github.com/rootstock-cf/rootstock/manifest"
)

// bin is where the programs under test lie.
var bin string

// build is the directory of the stock programs.
var build = os.Getenv("STOCK")

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if build == "" || os.Geteuid() != 0 {
		return m.Run() // tests say why they skip
	}
	dir, err := os.MkdirTemp("", "rootstock-stock-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := rig.Build(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = dir
	return m.Run()
}

func needStock(t *testing.T) {
	t.Helper()
	if build == "" {
		t.Skip("STOCK names no build of CernVM-FS 2.12: nothing was tried against the original (e2e/stock/README.md)")
	}
	for _, name := range []string{"cvmfs_swissknife", "cvmfs2", "cvmfs_fsck", "libcvmfs_fuse3_stub.so"} {
		if _, err := os.Stat(filepath.Join(build, name)); err != nil {
			t.Fatalf("STOCK=%s is not a build of CernVM-FS: %v", build, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems")
	}
}

func needTools(t *testing.T) rig.Tools {
	t.Helper()
	golden := os.Getenv("ROOTSTOCK_GOLDEN")
	if golden == "" {
		golden = "../../../shared/golden"
	}
	return rig.NeedTools(t, golden)
}

// stock prepares a stock program. It runs in a mount namespace with an empty
// /var/spool, where publishing keeps statistics by a fixed path.
func stock(name string, args ...string) *exec.Cmd {
	script := `mount -t tmpfs none /var/spool && mkdir -p "/var/spool/cvmfs/$0" && exec "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, repoName, filepath.Join(build, name)}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+build, "CVMFS_LIBRARY_PATH="+build)
	return cmd
}

// swissknife runs a command of cvmfs_swissknife, which must end well.
func swissknife(t *testing.T, args ...string) string {
	t.Helper()
	out, err := stock("cvmfs_swissknife", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("cvmfs_swissknife %s: %v\n%.4000s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

const repoName = "turns.example.org"

// repo is a repository on disk and how to reach it.
type repo struct {
	dir, keys, url string
}

func (r repo) publicKey() string { return manifest.PublicKeyFile(r.keys, repoName) }

// newKeys makes keys like those that stock makes.
func newKeys(t *testing.T) (dir string, keys *manifest.Keys, master *rsa.PrivateKey) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "keys")
	keys, master, err := manifest.GenerateKeys(repoName, manifest.KeyOptions{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Write(dir, master); err != nil {
		t.Fatal(err)
	}
	return dir, keys, master
}

// ours makes a repository with our publisher, with one tree in it.
func ours(t *testing.T, compression, hash string) repo {
	t.Helper()
	keys, _, _ := newKeys(t)
	r := repo{dir: filepath.Join(t.TempDir(), "store"), keys: keys}
	rootstock(t, "init", "--store", r.dir, "--name", repoName, "--keys", keys, "--compression", compression, "--hash", hash)
	publish(t, r, "1", source(t, 1))
	r.url = serve(t, r.dir)
	return r
}

// serve serves a repository with our server and returns its address.
func serve(t *testing.T, dir string) string {
	t.Helper()
	p := rig.Start(t, exec.Command(filepath.Join(bin, "rootstock"), "serve", "--store", dir, "--listen", "127.0.0.1:0"))
	at := regexp.MustCompile(`serving \S+ at (http://\S+)`)
	var found []string
	p.Until("it serves", func() bool {
		found = at.FindStringSubmatch(p.Said())
		return found != nil
	})
	return found[1]
}

func rootstock(t *testing.T, args ...string) string {
	t.Helper()
	return rig.Run(t, filepath.Join(bin, "rootstock"), args...)
}

func publish(t *testing.T, r repo, version, tar string) {
	t.Helper()
	rootstock(t, "publish", "--store", r.dir, "--keys", r.keys, "--cache", "", "rootfs", "demo", version, tar)
}

// body returns the value of a line that the manifest must have.
func (r repo) body(t *testing.T, letter string) string {
	t.Helper()
	value := r.line(t, letter)
	if value == "" {
		t.Fatalf("the manifest has no line %s", letter)
	}
	return value
}

// line returns the value of a line of the manifest, "" if it is not there.
func (r repo) line(t *testing.T, letter string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.dir, manifest.FileName))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if line == "--\n" {
			break
		}
		if value, ok := strings.CutPrefix(line, letter); ok {
			return strings.TrimSuffix(value, "\n")
		}
	}
	return ""
}

// reflogChecksum writes the digest of the reflog where stock wants it: in a file.
func (r repo) reflogChecksum(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "reflog.chksum")
	if err := os.WriteFile(file, []byte(r.body(t, "Y")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// check has the stock checker look at everything, objects included.
func (r repo) check(t *testing.T, reflog string) {
	t.Helper()
	out := swissknife(t, "check", "-c", "-r", r.dir, "-N", repoName, "-k", r.publicKey(), "-t", t.TempDir(), "-R", reflog, "-l", "4")
	if !strings.Contains(out, "no problems found") || !strings.Contains(out, "[needs check] 1") {
		t.Errorf("stock check:\n%.4000s", out)
	}
}

// stockInPlace prepares a stock program that runs in our own mount namespace.
func stockInPlace(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(build, name), args...)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+build, "CVMFS_LIBRARY_PATH="+build)
	return cmd
}
