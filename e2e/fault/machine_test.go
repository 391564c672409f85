package fault_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/internal/testrepo"
)

func machineFaults() []fault {
	const damaged = "rootstock_cache_damaged_total"
	return []fault{
		{"disk of the cache is full", "read through memory, uncached; cached again when there is room", "rootstock_cache_refused_total", func(t *testing.T, f *fixture) {
			ballast := smallDisk(t, f)
			f.start()
			lookInto(t, f)
			ballast.fill(t, 0)
			later := f.files["/dir/11"]
			delete(f.files, "/dir/11")
			f.good("disk full")
			f.files["/dir/11"] = later
			ballast.free(t)
			f.good("room again")
			if _, err := os.Stat(f.cached(later)); err != nil {
				t.Errorf("not cached again: %v", err)
			}
		}},
		{"disk of the cache gets full at each write", "right bytes or EIO; right when there is room", "rootstock_cache_refused_total", func(t *testing.T, f *fixture) {
			ballast := smallDisk(t, f)
			f.start()
			for _, page := range []int{0, 1, 2, 3, 5, 8, 12, 18, 27, 40} {
				ballast.fill(t, page)
				f.neverWrong(fmt.Sprintf("%d pages left", page))
				f.publish(testrepo.Tree{"/dir": testrepo.Nested(), fmt.Sprintf("/%d", page): testrepo.Text("x")})
				f.refresh() // may fail: its outcome is that of the next one
				ballast.free(t)
				f.republish()
				if e := f.refresh(); e != "" {
					t.Fatalf("%d pages were left: %s", page, e)
				}
			}
			f.good("room again")
		}},
		{"disk of the cache fails and becomes read-only", "read through memory; never a wrong byte", "rootstock_cache_refused_total", func(t *testing.T, f *fixture) {
			fail := failingDisk(t, f)
			f.start()
			lookInto(t, f)
			fail()
			f.good("read-only")
			f.refresh()
			f.good("read-only, after a refresh")
		}},
		{"cached files written to, times put back", "noticed before they are served, and replaced", damaged, corrupting(func(t *testing.T, path string, n int) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			w, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			w.WriteAt([]byte("not what it was"), int64(n))
			w.Close()
			os.Chtimes(path, info.ModTime(), info.ModTime())
		})},
		{"cached files truncated", "noticed before they are served, and replaced", damaged, corrupting(func(t *testing.T, path string, n int) {
			if err := os.Truncate(path, int64(n)); err != nil {
				t.Fatal(err)
			}
		})},
		{"cached files deleted", "fetched again", damaged, corrupting(func(t *testing.T, path string, _ int) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		})},
		{"mapped catalog indexes truncated", "EIO until the next look for a revision, then made again", damaged, func(t *testing.T, f *fixture) {
			f.start()
			f.good("before")
			list, err := filepath.Glob(f.o.CacheDir + "/catalogs/*/*")
			if err != nil || len(list) < 2 {
				t.Fatalf("%v, %v", list, err)
			}
			for _, path := range list {
				if err := os.Truncate(path, 0); err != nil {
					t.Fatal(err)
				}
			}
			// Attributes, names and contents are in the kernel or open; asking
			// for an xattr goes to the index each time.
			asked := f.mnt + "/dir/00"
			if err := fqrn(asked); !errors.Is(err, unix.EIO) {
				t.Errorf("index gone: %v, want EIO", err)
			}
			f.neverWrong("indexes gone")
			if e := f.refresh(); e != "" {
				t.Error(e)
			}
			if err := fqrn(asked); err != nil {
				t.Errorf("indexes made again: %v", err)
			}
			f.good("indexes made again")
		}},
		{"process killed while it writes the cache, what was last is lost", "the next start finds no wrong content", damaged, killedWhileWriting},
	}
}

// fqrn asks for an attribute that every file has.
func fqrn(path string) error {
	_, err := unix.Getxattr(path, "user.fqrn", make([]byte, 256))
	return err
}

// corrupting has everything cached, damages every file, and reads again.
func corrupting(damage func(t *testing.T, path string, n int)) func(*testing.T, *fixture) {
	return func(t *testing.T, f *fixture) {
		f.start()
		f.good("before")
		n := 0
		for _, b := range f.files {
			damage(t, f.cached(b), n)
			n += 100
		}
		f.good("damaged")
		f.good("replaced")
		for path, b := range f.files {
			if got, err := os.ReadFile(f.cached(b)); err != nil || string(got) != string(b) {
				t.Errorf("%s is not cached rightly: %d bytes, %v", path, len(got), err)
			}
		}
	}
}

// ballast fills a disk.
type ballast struct{ file string }

// smallDisk puts the fixture's cache on a file system of its own.
func smallDisk(t *testing.T, f *fixture) ballast {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	// After the cell: clean-ups run in reverse order, and start comes later.
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	f.o.CacheDir = filepath.Join(disk, "cache")
	return ballast{filepath.Join(disk, "ballast")}
}

// failingDisk puts the cache on an ext4 of its own and returns what makes that
// find an error, whereupon the kernel makes it read-only.
func failingDisk(t *testing.T, f *fixture) (fail func()) {
	t.Helper()
	dir := t.TempDir()
	image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	for _, cmd := range [][]string{
		{"truncate", "-s", "16M", image},
		{"mkfs.ext4", "-q", "-F", image},
		{"mkdir", disk},
		{"mount", "-o", "loop,errors=remount-ro", image, disk},
	} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("unmount %s: %v", disk, err)
		}
	})
	f.o.CacheDir = filepath.Join(disk, "cache")
	return func() {
		out, err := exec.Command("findmnt", "-n", "-o", "SOURCE", disk).Output()
		if err != nil {
			t.Fatal(err)
		}
		trigger := "/sys/fs/ext4/" + filepath.Base(strings.TrimSpace(string(out))) + "/trigger_fs_error"
		if err := os.WriteFile(trigger, []byte("test"), 0); err != nil {
			t.Skipf("SKIPPED: ext4 cannot be made to fail here, so no failing disk was tested: %v", err)
		}
	}
}

// fill leaves so many pages free. What is cached meanwhile counts as free: the
// cell evicts before it gives up, so its room is taken, too.
func (b ballast) fill(t *testing.T, pages int) {
	t.Helper()
	f, err := os.Create(b.file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, _ := io.Copy(f, io.LimitReader(zeroes{}, 16<<20)) // ends with ENOSPC
	if err := f.Truncate(max(0, n&^4095-int64(pages)*4096)); err != nil {
		t.Fatal(err)
	}
}

func (b ballast) free(t *testing.T) {
	t.Helper()
	if err := os.Remove(b.file); err != nil {
		t.Fatal(err)
	}
}

// through gets a URL through a proxy, as any client would.
func through(t *testing.T, proxy, address string) []byte {
	t.Helper()
	p, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(p)}}
	defer c.CloseIdleConnections()
	r, err := c.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
