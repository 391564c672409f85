package quota_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
	"github.com/rootstock-cf/rootstock/rootfsprovider/quota"
)

// Where the file system has project quotas, what is written into an overlay's
// write layer is bounded and counted, and is not any more after Remove. Written
// to directly it would prove nothing: CAP_SYS_RESOURCE goes beyond the limits of
// ext4, and overlayfs writes without it.
func TestProjectOfTheKernel(t *testing.T) {
	base := t.TempDir()
	p := quota.Project{IDs: filepath.Join(base, "ids")}
	if !p.Enforced(base) {
		if strings.Contains(os.Getenv("ROOTSTOCK_TEST_KERNEL"), "quota=project") {
			t.Fatal("this kernel is known to have project quotas")
		}
		t.Skip("SKIPPED: the file system of the temporary directory has no project quotas: their kernel side is not tested")
	}
	at := func(name string) string { return filepath.Join(base, name) }
	for _, d := range []string{"lower", "handle", "root"} {
		must(t, os.Mkdir(at(d), 0o755))
	}
	const limit = 4 << 20
	must(t, p.Prepare(t.Context(), at("handle"), limit))
	for _, d := range []string{"handle/upper", "handle/work"} {
		must(t, os.Mkdir(at(d), 0o755))
	}
	must(t, overlay.Mount(overlay.Layers{Lower: []string{at("lower")}, Upper: at("handle/upper"), Work: at("handle/work")}, at("root")))
	defer func() {
		_, err := overlay.Unmount(context.Background(), at("root"))
		must(t, err)
	}()
	write := func(name string) (int64, error) {
		t.Helper()
		f, err := os.Create(at(name))
		must(t, err)
		defer f.Close()
		return io.CopyN(f, zeros{}, 2*limit)
	}
	n, err := write("root/file")
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) || n > limit || n < limit/2 {
		t.Errorf("%d bytes of %d went in: %v", n, limit, err)
	}
	if used, err := p.Usage(at("handle")); err != nil || used < n || used > limit {
		t.Errorf("Usage = %d, %v, of %d bytes", used, err, n)
	}
	must(t, os.Remove(at("root/file")))
	if used, err := p.Usage(at("handle")); err != nil || used > limit/8 {
		t.Errorf("Usage = %d, %v, after everything is removed", used, err)
	}
	must(t, p.Remove(t.Context(), at("handle")))
	must(t, os.Mkdir(at("handle/free"), 0o755))
	if n, err := write("handle/free/file"); err != nil {
		t.Errorf("%d bytes went in without a limit: %v", n, err)
	}
	if _, err := p.Usage(at("handle")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Usage without a quota: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
