package e2e_test

import (
	"bufio"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
)

const siteName = "site.example.org"

// site is a stratum 0 with its keys, in a directory of the test's own.
type site struct {
	name                  string // siteName if it is empty
	dir, bin, store, keys string
	url                   string
}

func (s *site) fqrn() string { return cmp.Or(s.name, siteName) }

// newSite makes a repository with rootstock init and the given flags.
func newSite(t testing.TB, flags ...string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{dir: dir, bin: programs(t), store: filepath.Join(dir, "store"), keys: filepath.Join(dir, "keys")}
	k, master, err := manifest.GenerateKeys(siteName, manifest.KeyOptions{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Write(s.keys, master); err != nil {
		t.Fatal(err)
	}
	run(t, dir, s.bin+"/rootstock", append([]string{"init", "--store", s.store, "--name", siteName, "--keys", s.keys}, flags...)...)
	return s
}

func (s *site) publish(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, s.dir, s.bin+"/rootstock", append([]string{"publish", "--store", s.store, "--keys", s.keys, "--cache", filepath.Join(s.dir, "index")}, args...)...)
}

// serve starts rootstock serve and returns the repository's URL.
func (s *site) serve(t testing.TB) string {
	t.Helper()
	if s.url == "" {
		s.url = background(t, regexp.MustCompile(`(http://127\.0\.0\.1:\d+/\S+)`), s.bin+"/rootstock", "serve", "--store", s.store, "--listen", "127.0.0.1:0")
	}
	return s.url
}

// mount serves and mounts the repository on an empty cache.
func (s *site) mount(t *testing.T, flags ...string) string {
	t.Helper()
	mnt, err := os.MkdirTemp(s.dir, "mnt-")
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"mount", "--url", s.serve(t), "--name", siteName, "--key", filepath.Join(s.keys, siteName+".pub"), "--cache", mnt + ".cache"}, flags...)
	background(t, regexp.MustCompile(`^(mounted) `), s.bin+"/rootstock-cell", append(args, mnt)...)
	return mnt
}

// background starts a program, waits for a line that matches and returns the
// first submatch. The program is ended with the test and must end well.
func background(t testing.TB, want *regexp.Regexp, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	matched := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := want.FindStringSubmatch(lines.Text()); m != nil && cap(matched) > len(matched) {
				matched <- m[1]
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer timer.Stop()
		<-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s %v: %v", path, args, err)
		}
	})
	select {
	case m := <-matched:
		return m
	case <-ended:
		t.Fatalf("%s %v ended without a line like %q", path, args, want)
	case <-time.After(patience):
		t.Fatalf("%s %v said nothing like %q", path, args, want)
	}
	return ""
}
