package rootfsprovider_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

func TestCreateAndDelete(t *testing.T) {
	c := newCell(t)
	must(t, os.Chmod(c.lower, 0o751))
	spec := c.create("h-1")
	doc, err := json.Marshal(spec)
	must(t, err)
	root := filepath.Join(c.conf.Store, "containers", "h-1", "rootfs")
	if want := `{"ociVersion":"1.3.0","process":{"env":["PATH=/bin","FROM_IMAGE=yes"]},"root":{"path":"` + root + `"}}`; string(doc) != want {
		t.Errorf("document\n%s, want\n%s", doc, want)
	}
	if got, err := os.ReadFile(filepath.Join(root, "etc", "file")); err != nil || string(got) != "lower text" {
		t.Errorf("etc/file = %q, %v", got, err)
	}
	c.write("new", root, "etc", "file")
	if got, err := os.ReadFile(filepath.Join(c.lower, "etc", "file")); err != nil || string(got) != "lower text" {
		t.Errorf("the lower was changed: %q, %v", got, err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(root, &st))
	if st.Mode&0o7777 != 0o751 || st.Uid != 0 {
		t.Errorf("the root directory has mode %o, owner %d", st.Mode, st.Uid)
	}
	if pins := c.daemon.Pins(); len(pins) != 1 || pins[0] != "h-1" {
		t.Errorf("pins: %v", pins)
	}
	for range 2 {
		must(t, c.provider().Delete(t.Context(), "h-1"))
		c.clean()
	}
	// The handle is free again.
	c.create("h-1")
	must(t, c.provider().Delete(t.Context(), "h-1"))
	c.clean()
}

func TestCreateOfExisting(t *testing.T) {
	c := newCell(t)
	spec := c.create("x")
	_, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "x"})
	if !errors.Is(err, rootfsprovider.ErrExists) || err.Error() != "image for id `x` already exists" {
		t.Errorf("second create: %v", err)
	}
	if _, err := os.Stat(filepath.Join(spec.Root.Path, "etc", "file")); err != nil {
		t.Errorf("the first container suffered: %v", err)
	}
	if pins := c.daemon.Pins(); len(pins) != 1 {
		t.Errorf("pins: %v", pins)
	}
	must(t, c.provider().Delete(t.Context(), "x"))
	c.clean()
}

func TestCreateRefuses(t *testing.T) {
	c := newCell(t)
	for name, tc := range map[string]struct {
		r    rootfsprovider.Request
		want error  // nil for any
		says string // part of the message
	}{
		"not published":  {rootfsprovider.Request{URI: uri + "2", Handle: "h"}, control.ErrNotFound, uri + "2"},
		"lower is gone":  {rootfsprovider.Request{URI: uri + "-gone", Handle: "h"}, unix.ENOENT, "not there"},
		"relative lower": {rootfsprovider.Request{URI: uri + "-odd", Handle: "h"}, nil, `"relative"`},
		"strange option": {rootfsprovider.Request{URI: uri + "-option", Handle: "h"}, nil, "upperdir"},
		"no lower":       {rootfsprovider.Request{URI: uri + "-none", Handle: "h"}, nil, "no lower"},
		"docker":         {rootfsprovider.Request{URI: "docker:///library/busybox#1", Handle: "h"}, control.ErrNotFound, "rootstock publish image docker://docker.io/library/busybox:1"},
		"bare path":      {rootfsprovider.Request{URI: "/var/vcap/rootfs.tar", Handle: "h"}, fs.ErrNotExist, "/var/vcap/rootfs.tar"},
		"no path":        {rootfsprovider.Request{URI: "rootfs.tar", Handle: "h"}, rootfsprovider.ErrUnsupported, "cvmfs://"},
		"other scheme":   {rootfsprovider.Request{URI: "s3://bucket/x", Handle: "h"}, rootfsprovider.ErrUnsupported, "s3://bucket/x"},
		"climbing URI":   {rootfsprovider.Request{URI: "cvmfs://r.example.org/rootfs/../x", Handle: "h"}, reference.ErrInvalid, ".."},
		"slash":          {rootfsprovider.Request{URI: uri, Handle: "../h"}, control.ErrInvalid, "../h"},
		"dots":           {rootfsprovider.Request{URI: uri, Handle: ".."}, control.ErrInvalid, "dot"},
		"no handle":      {rootfsprovider.Request{URI: uri}, control.ErrInvalid, "empty"},
		"negative limit": {rootfsprovider.Request{URI: uri, Handle: "h", DiskLimit: -1}, rootfsprovider.ErrLimit, "-1"},
		"image over limit": {
			rootfsprovider.Request{URI: uri, Handle: "h", DiskLimit: imageSize},
			rootfsprovider.ErrLimit, fmt.Sprint(imageSize),
		},
	} {
		_, err := c.provider().Create(t.Context(), tc.r)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
		c.clean()
	}
	for _, handle := range []string{"../h", "..", ""} {
		// Garden deletes after a failed create.
		if err := c.provider().Delete(t.Context(), handle); err != nil {
			t.Errorf("Delete(%q): %v", handle, err)
		}
		if _, err := c.provider().Stats(t.Context(), handle); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("Stats(%q): %v", handle, err)
		}
	}
}

// Handles are Garden's users' to choose: signs that mean something to mount
// mean nothing here.
func TestOddHandles(t *testing.T) {
	c := newCell(t)
	for _, handle := range []string{`a:b,c\d`, "-x", "x.json", strings.Repeat("h", control.MaxHandle)} {
		spec := c.create(handle)
		c.write("x", spec.Root.Path, "new")
		must(t, c.provider().Delete(t.Context(), handle))
		c.clean()
	}
}

func TestCredentialsAreNotShown(t *testing.T) {
	c := newCell(t)
	for _, u := range []string{
		"docker://bob:secret@registry/x", "cvmfs://bob:secret@r.example.org/rootfs/x", "http://secret@h", "x://a@secret@h/p",
	} {
		_, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: u, Handle: "h"})
		if !errors.Is(err, rootfsprovider.ErrUnsupported) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
}

// The limit is met with ENOSPC in the container, at the limit and not before,
// and stats agree with it.
func TestDiskLimit(t *testing.T) {
	const room = 3 << 20
	for name, r := range map[string]rootfsprovider.Request{
		"total":     {URI: uri, Handle: "h", DiskLimit: imageSize + room},
		"exclusive": {URI: uri, Handle: "h", DiskLimit: room, ExcludeImage: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCell(t)
			spec, err := c.provider().Create(t.Context(), r)
			must(t, err)
			stats, err := c.provider().Stats(t.Context(), "h")
			must(t, err)
			if used := stats.DiskUsage; used.Exclusive > 64<<10 || used.Total-used.Exclusive != imageSize {
				t.Errorf("a new container uses %+v", used)
			}
			f, err := os.Create(filepath.Join(spec.Root.Path, "big"))
			must(t, err)
			defer f.Close()
			written, buf := int64(0), make([]byte, 32<<10)
			for err == nil && written < 10*room {
				var n int
				n, err = f.Write(buf)
				written += int64(n)
			}
			if !errors.Is(err, unix.ENOSPC) || written < room || written > room+128<<10 {
				t.Errorf("%d bytes were written, then %v; the limit is %d", written, err, room)
			}
			stats, err = c.provider().Stats(t.Context(), "h")
			if used := stats.DiskUsage; err != nil || used.Exclusive < room || used.Exclusive > room+128<<10 {
				t.Errorf("a full container uses %+v, %v", used, err)
			}
			f.Close()
			must(t, c.provider().Delete(t.Context(), "h"))
			c.clean()
		})
	}
}

func TestStats(t *testing.T) {
	c := newCell(t)
	spec := c.create("h")
	c.write(strings.Repeat("x", 1<<20), spec.Root.Path, "new")
	f, err := os.Open(filepath.Join(spec.Root.Path, "new"))
	must(t, err)
	must(t, f.Sync())
	f.Close()
	stats, err := c.provider().Stats(t.Context(), "h")
	must(t, err)
	if used := stats.DiskUsage; used.Exclusive < 1<<20 || used.Exclusive > 1<<20+64<<10 || used.Total != used.Exclusive+imageSize {
		t.Errorf("Stats = %+v", used)
	}
	if _, err := c.provider().Stats(t.Context(), "other"); !errors.Is(err, rootfsprovider.ErrUnknown) {
		t.Errorf("unknown handle: %v", err)
	}
	must(t, c.provider().Delete(t.Context(), "h"))
	if _, err := c.provider().Stats(t.Context(), "h"); !errors.Is(err, rootfsprovider.ErrUnknown) {
		t.Errorf("deleted handle: %v", err)
	}
}

func TestCapacity(t *testing.T) {
	c := newCell(t)
	got, err := c.provider().Capacity()
	must(t, err)
	var st unix.Statfs_t
	must(t, unix.Statfs(c.conf.Store, &st))
	if want := int64(st.Blocks) * st.Bsize; got.Bytes != want {
		t.Errorf("Capacity = %d, want %d", got.Bytes, want)
	}
}

// In a user namespace the container's root owns what root owns in the image,
// also in the write layer, and other users stay who they are.
func TestMapping(t *testing.T) {
	c := newCell(t)
	c.conf.UIDMaps, c.conf.GIDMaps = guardian, guardian
	root := c.create("h").Root.Path
	for name, want := range map[string]uint32{"": 4294967294, "etc/file": 4294967294, "home/vcap": 1000} {
		path := filepath.Join(root, name)
		must(t, os.Chmod(path, 0o755)) // copied up
		if uid, gid := owner(t, path); uid != want || gid != want {
			t.Errorf("%q belongs to %d:%d, want %d", name, uid, gid, want)
		}
	}
	if left := c.kernelLeftovers(); len(left) != 1 || !strings.Contains(left[0], "/rootfs ") {
		t.Errorf("mounts of a container: %q", left)
	}
	must(t, c.provider().Delete(t.Context(), "h"))
	c.clean()
	// An image whose root belongs to somebody the namespace does not have.
	c.conf.UIDMaps = []overlay.IDRange{{Container: 0, Host: 100000, Size: 10}}
	must(t, os.Chown(c.lower, 70000, 0))
	if _, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "h"}); err == nil || !strings.Contains(err.Error(), "uid_maps") {
		t.Errorf("unmapped owner: %v", err)
	}
	c.clean()
}

// Containers are deleted while the daemon is away; it is told when it is back.
func TestDeleteWithoutDaemon(t *testing.T) {
	c := newCell(t)
	for _, h := range []string{"a", "b", "c", "d"} {
		c.create(h)
	}
	c.daemon.Stop()
	must(t, c.provider().Delete(t.Context(), "a"))
	must(t, c.provider().Delete(t.Context(), "b"))
	if _, err := c.provider().Stats(t.Context(), "a"); !errors.Is(err, rootfsprovider.ErrUnknown) {
		t.Errorf("Stats of a deleted container: %v", err)
	}
	if _, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "e"}); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("Create: %v", err)
	}
	c.daemon.Restart(t)
	// A handle that comes back before its release was sent keeps its pin.
	c.create("a")
	if owed, err := os.ReadDir(filepath.Join(c.conf.Store, "releases")); err != nil || len(owed) != 2 || owed[0].Name() != "b" {
		t.Errorf("releases owed: %v, %v, want b's, and e's of the create that failed", owed, err)
	}
	must(t, c.provider().Delete(t.Context(), "c"))
	if pins := c.daemon.Pins(); fmt.Sprint(pins) != "[a d]" {
		t.Errorf("pins: %v, want a and d", pins)
	}
	c.daemon.Stop()
	must(t, c.provider().Delete(t.Context(), "a"))
	c.daemon.Restart(t)
	_, err := c.provider().GC(t.Context())
	must(t, err)
	if pins := c.daemon.Pins(); fmt.Sprint(pins) != "[d]" {
		t.Errorf("pins after GC: %v, want d", pins)
	}
	must(t, c.provider().Delete(t.Context(), "d"))
	c.clean()
}

func TestConcurrently(t *testing.T) {
	c := newCell(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			handle := fmt.Sprintf("h%d", i)
			for range 2 {
				if _, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: handle}); err != nil {
					t.Error(err)
				}
				if err := c.provider().Delete(t.Context(), handle); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c.clean()
}

// Of creates of one handle at a time one wins, and deletes in between see all
// or nothing.
func TestConcurrentlySameHandle(t *testing.T) {
	c := newCell(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if i%3 == 0 {
				if err := c.provider().Delete(t.Context(), "h"); err != nil {
					t.Error(err)
				}
				return
			}
			spec, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "h"})
			if err != nil && !errors.Is(err, rootfsprovider.ErrExists) {
				t.Error(err)
			}
			if err == nil && spec.Root.Path == "" {
				t.Error("no root")
			}
		})
	}
	wg.Wait()
	must(t, c.provider().Delete(t.Context(), "h"))
	c.clean()
}

func TestLockIsWaitedFor(t *testing.T) {
	c := newCell(t)
	release, err := rootfsprovider.Lock(c.provider(), "h")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.provider().Create(ctx, rootfsprovider.Request{URI: uri, Handle: "h"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Create under a lock: %v", err)
	}
	if err := c.provider().Delete(ctx, "h"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Delete under a lock: %v", err)
	}
	if cleaned, err := c.provider().GC(t.Context()); len(cleaned) != 0 || err != nil {
		t.Errorf("GC under a lock: %v, %v", cleaned, err)
	}
	release()
	c.create("h")
	must(t, c.provider().Delete(t.Context(), "h"))
	c.clean()
}

// A root that is in use elsewhere goes nevertheless.
func TestDeleteBusy(t *testing.T) {
	c := newCell(t)
	for _, limit := range []int64{0, 1 << 20} {
		spec, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "h", DiskLimit: limit, ExcludeImage: true})
		must(t, err)
		f, err := os.Create(filepath.Join(spec.Root.Path, "open"))
		must(t, err)
		must(t, c.provider().Delete(t.Context(), "h"))
		f.Close()
		c.clean()
	}
}
