package cell_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

var high = []overlay.IDRange{{Container: 0, Host: 100000, Size: 65536}}

// Where ids are the daemon's to map, a container with a user namespace gets
// layers with its owners; on whatever revision it stands, and after a daemon
// that left its mounts behind.
func TestIDsMappedByDaemon(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(box)
	o := options(t, repo)
	o.Tier, o.IDMapping = cell.TierTree, cell.IDsDaemon
	daemon, c, stop := start(t, o)
	ask := func(handle string) control.Lower {
		t.Helper()
		l, err := c.Lower(t.Context(), control.LowerRequest{Ref: raw(t, repo.Name, "/tree"), Handle: handle, UIDMaps: high, GIDMaps: high})
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Lower) != 1 || len(l.Mapped) != 1 || l.Lower[0] == l.Mapped[0] {
			t.Fatalf("layers %v, mapped %v", l.Lower, l.Mapped)
		}
		for dir, want := range map[string]string{l.Lower[0]: "0:0", l.Mapped[0]: "100000:100000"} {
			out, err := exec.Command("stat", "-c", "%u:%g", dir+"/etc/hostname").CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != want {
				t.Errorf("%s belongs to %s, %v, want %s", dir, got, err, want)
			}
			if b, err := cat(dir + "/etc/hostname"); err != nil || string(b) != "box" {
				t.Errorf("%s: %q, %v", dir, b, err)
			}
		}
		return l
	}
	first := ask("one")
	if !strings.HasPrefix(first.Mapped[0], filepath.Join(o.CacheDir, "mnt/ids", repo.Name)+"/") {
		t.Errorf("mounted at %s", first.Mapped[0])
	}
	live, err := filepath.Glob(filepath.Join(o.CacheDir, "mnt/ids", repo.Name, "*"))
	if err != nil || len(live) != 1 {
		t.Fatalf("mounts %v, %v", live, err)
	}
	if _, err := cat(live[0] + "/tree/new"); err == nil {
		t.Error("there already")
	}
	repo.Publish(testrepo.Tree{"/tree": testrepo.Nested(), "/tree/etc/hostname": testrepo.Text("box"), "/tree/new": testrepo.Text("n")})
	if _, err := daemon.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := cat(live[0] + "/tree/new"); err != nil || string(b) != "n" {
		t.Errorf("the newest revision with other ids: %q, %v", b, err)
	}
	second := ask("two")
	if b, err := cat(second.Mapped[0] + "/new"); err != nil || string(b) != "n" {
		t.Errorf("the new revision: %q, %v", b, err)
	}
	if _, err := cat(first.Mapped[0] + "/new"); err == nil {
		t.Error("a container's tree changed")
	}

	privileged, err := c.Lower(t.Context(), control.LowerRequest{Ref: raw(t, repo.Name, "/tree"), Handle: "three"})
	if err != nil || len(privileged.Mapped) > 0 {
		t.Errorf("for a container with the host's ids: %v, %v", privileged.Mapped, err)
	}
	overlapping := append(high, high...)
	_, err = c.Lower(t.Context(), control.LowerRequest{Ref: raw(t, repo.Name, "/tree"), Handle: "four", UIDMaps: overlapping, GIDMaps: high})
	if !errors.Is(err, control.ErrInvalid) {
		t.Errorf("a mapping that cannot be: %v", err)
	}
	st := status(t, daemon)
	if st.IDMapping != cell.IDsDaemon || st.MappingWhy != "configured" || st.Repositories[0].IDMappings != 1 || st.Repositories[0].Requests < 10 {
		t.Errorf("status: %s, %s, %+v", st.IDMapping, st.MappingWhy, st.Repositories[0])
	}
	stop()
	left := filepath.Join(o.CacheDir, "mnt/ids", repo.Name, "left")
	if err := errors.Join(os.MkdirAll(left, 0o700), unix.Mount("left", left, "tmpfs", 0, "size=4k")); err != nil {
		t.Fatal(err)
	}
	_, c, _ = start(t, o)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a daemon left: %v", err)
	}
	ask("one")
}

// The kernel maps if it can, which one look tells; the image tier needs no help.
func TestIDsMappedByKernel(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(box)
	o := options(t, repo)
	o.Tier = cell.TierTree
	daemon, c, _ := start(t, o)
	st := status(t, daemon)
	can := overlay.CanMap(o.Repositories[0].Mountpoint)
	want := cell.IDsKernel
	if can != nil {
		want = cell.IDsDaemon
	}
	if st.IDMapping != want || st.MappingWhy == "" || st.MappingWhy == "configured" {
		t.Errorf("%s, because %s; asked, the kernel says %v", st.IDMapping, st.MappingWhy, can)
	}
	l, err := c.Lower(t.Context(), control.LowerRequest{Ref: raw(t, repo.Name, "/tree"), Handle: "h", UIDMaps: high, GIDMaps: high})
	if err != nil || (len(l.Mapped) == 0) != (can == nil) {
		t.Errorf("mapped layers %v, %v", l.Mapped, err)
	}
}

func TestIDMappingThatIsNone(t *testing.T) {
	o := options(t, testrepo.New(t, testrepo.Options{}))
	o.IDMapping = "nobody"
	if _, err := cell.Mount(t.Context(), o); err == nil || !strings.Contains(err.Error(), "auto, kernel, daemon") {
		t.Errorf("%v", err)
	}
}

func status(t *testing.T, c *cell.Cell) cell.Status {
	t.Helper()
	doc, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return doc.(cell.Status)
}

// procfs is a file system that no kernel can map, as FUSE is before Linux 6.12.
func TestWhoMapsIDs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: looking takes root")
	}
	for _, c := range []struct{ asked, path, by, why string }{
		{"", "/proc", cell.IDsDaemon, "/proc cannot be mounted with mapped ids"},
		{cell.IDsAuto, "/proc", cell.IDsDaemon, "/proc cannot be mounted with mapped ids"},
		{cell.IDsAuto, t.TempDir(), cell.IDsKernel, "the kernel can"},
		{cell.IDsKernel, "/proc", cell.IDsKernel, "configured"},
		{cell.IDsDaemon, t.TempDir(), cell.IDsDaemon, "configured"},
	} {
		by, why := cell.ChooseIDMapping(cell.Options{IDMapping: c.asked}, c.path)
		if by != c.by || !strings.Contains(why, c.why) {
			t.Errorf("%s, asked for %q: %s, because %s", c.path, c.asked, by, why)
		}
	}
}
