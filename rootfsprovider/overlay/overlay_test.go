package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting needs root")
	}
}

func mkdir(t testing.TB, parts ...string) string {
	t.Helper()
	dir := filepath.Join(parts...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, text string, parts ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(parts...), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func unmount(t testing.TB, target string) {
	t.Helper()
	if _, err := overlay.Unmount(context.Background(), target); err != nil {
		t.Error(err)
	}
}

// needWay skips what the kernel can be told only in another way.
func needWay(t *testing.T, w string) {
	t.Helper()
	dir := t.TempDir()
	target := mkdir(t, dir, "target")
	l := overlay.Layers{Lower: []string{mkdir(t, dir, "one"), mkdir(t, dir, "two")}}
	err := overlay.Ways["descriptor"](l, target)
	if err == nil {
		unmount(t, target)
	}
	if w == "descriptor" && errors.Is(err, overlay.ErrWay) || w != "mount" && errors.Is(err, overlay.ErrOneByOne) {
		t.Skipf("SKIPPED: %s: %v", w, err)
	}
}

// Each way takes the signs that mean something in mount options; the two that
// pass layers one by one take any length.
func TestMount(t *testing.T) {
	needRoot(t)
	long := filepath.Join(strings.Repeat("x", 200), strings.Repeat("y", 200))
	for _, tc := range []struct {
		name, odd string
		ways      []string
	}{
		{"plain", "p", []string{"descriptor", "string", "mount"}},
		{"signs", `h:a,b\c d`, []string{"descriptor", "string", "mount"}},
		{"almost too long", strings.Repeat(`\`, 190), []string{"descriptor", "string", "mount"}},
		{"long", long, []string{"descriptor", "string", "mount"}},
		{"over a page", filepath.Join(long, strings.Repeat("z", 200), strings.Repeat("u", 200), strings.Repeat("v", 200)), []string{"descriptor", "string"}},
	} {
		for _, w := range tc.ways {
			t.Run(tc.name+"/"+w, func(t *testing.T) {
				needWay(t, w)
				dir := t.TempDir()
				l := overlay.Layers{
					Upper: mkdir(t, dir, tc.odd, "upper"), Work: mkdir(t, dir, tc.odd, "work"),
					Options: []string{"metacopy=on", "redirect_dir=on"},
				}
				n := 4
				for i := range n {
					lower := mkdir(t, dir, tc.odd, fmt.Sprintf("l:%d", i))
					write(t, fmt.Sprint(i), lower, fmt.Sprint(i))
					write(t, fmt.Sprint(i), lower, "top")
					l.Lower = append(l.Lower, lower)
				}
				target := mkdir(t, dir, tc.odd, "rootfs")
				if err := overlay.Ways[w](l, target); err != nil {
					t.Fatal(err)
				}
				defer unmount(t, target)
				for i := range n {
					if got := read(t, target, fmt.Sprint(i)); got != fmt.Sprint(i) {
						t.Errorf("layer %d holds %q", i, got)
					}
				}
				if got := read(t, target, "top"); got != "0" {
					t.Errorf("the topmost layer is %s, not the first", got)
				}
				write(t, "new", target, "new")
				if got := read(t, l.Upper, "new"); got != "new" {
					t.Errorf("the write layer has %q", got)
				}
			})
		}
	}
}

func TestMountTellsWhy(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	l := overlay.Layers{
		Lower: []string{mkdir(t, dir, "lower")}, Upper: mkdir(t, dir, "upper"), Work: mkdir(t, dir, "work"),
		Options: []string{"nonsense=on"},
	}
	target := mkdir(t, dir, "rootfs")
	if err := overlay.Mount(l, target); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("unknown option: %v", err)
		unmount(t, target)
	}
	l.Options, l.Lower = nil, []string{filepath.Join(dir, "gone")}
	if err := overlay.Mount(l, target); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("missing lower: %v", err)
		unmount(t, target)
	}
	long := strings.Repeat("x", 250)
	l.Lower = nil
	for i := range 20 {
		l.Lower = append(l.Lower, mkdir(t, dir, fmt.Sprint(i)+long))
	}
	if err := overlay.Ways["mount"](l, target); err == nil || !strings.Contains(err.Error(), "page") {
		t.Errorf("more than a page: %v", err)
		unmount(t, target)
	}
	needWay(t, "string")
	if err := overlay.Mount(l, target); err != nil {
		t.Errorf("more than a page, one by one: %v", err)
	} else {
		unmount(t, target)
	}
}

// A data-only layer gives content to the redirects of the layer above it.
func TestDataLayer(t *testing.T) {
	needRoot(t)
	for _, w := range []string{"descriptor", "string", "mount"} {
		t.Run(w, func(t *testing.T) {
			needWay(t, w)
			dir := t.TempDir()
			meta, data := mkdir(t, dir, "meta"), mkdir(t, dir, "data")
			write(t, "content", mkdir(t, data, "ab"), "cd")
			write(t, "", meta, "file")
			file := filepath.Join(meta, "file")
			if err := os.Truncate(file, int64(len("content"))); err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"trusted.overlay.metacopy": "", "trusted.overlay.redirect": "/ab/cd"} {
				if err := unix.Setxattr(file, name, []byte(value), 0); err != nil {
					t.Fatal(err)
				}
			}
			target := mkdir(t, dir, "rootfs")
			l := overlay.Layers{
				Lower: []string{meta}, Data: []string{mkdir(t, dir, "cache"), data},
				Upper: mkdir(t, dir, "upper"), Work: mkdir(t, dir, "work"),
				Options: []string{"metacopy=on", "redirect_dir=on"},
			}
			if err := overlay.Mount(l, target); errors.Is(err, overlay.ErrNoData) {
				t.Skipf("SKIPPED: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			unmount(t, target)
			err := overlay.Ways[w](l, target)
			if err != nil {
				t.Fatal(err)
			}
			defer unmount(t, target)
			if got := read(t, target, "file"); got != "content" {
				t.Errorf("file reads %q", got)
			}
		})
	}
}

func TestUnmount(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	target := mkdir(t, dir, "t")
	for range 3 {
		if err := unix.Mount("tmpfs", target, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if lazy, err := overlay.Unmount(t.Context(), target); lazy || err != nil {
		t.Errorf("three mounts: %v, %v", lazy, err)
	}
	if err := os.Remove(target); err != nil {
		t.Errorf("still mounted: %v", err)
	}
	if lazy, err := overlay.Unmount(t.Context(), target); lazy || err != nil {
		t.Errorf("nothing there: %v, %v", lazy, err)
	}
	busy := mkdir(t, dir, "busy")
	if err := unix.Mount("tmpfs", busy, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(busy, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if lazy, err := overlay.Unmount(t.Context(), busy); !lazy || err != nil {
		t.Errorf("busy mount: lazy %v, %v", lazy, err)
	}
	if err := os.Remove(busy); err != nil {
		t.Errorf("still mounted: %v", err)
	}
	// A link must not lead the unmount elsewhere.
	elsewhere, link := mkdir(t, dir, "elsewhere"), filepath.Join(dir, "link")
	if err := unix.Mount("tmpfs", elsewhere, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unmount(t, elsewhere)
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	overlay.Unmount(t.Context(), link) //nolint:errcheck // either answer is fine
	if err := os.Remove(elsewhere); !errors.Is(err, unix.EBUSY) {
		t.Errorf("the link's target was unmounted: %v", err)
	}
}
