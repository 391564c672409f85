package e2e_test

import (
	"cmp"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// kernelVar says what this kernel can, as key=value with commas between, where
// somebody knows it: make test-kernel takes it from kernel/kernels.txt. Keys are
// tier, ids and quota.
const kernelVar = "ROOTSTOCK_TEST_KERNEL"

// A cell that is told nothing chooses what the kernel can, says so once, and
// goes on saying it when it is asked.
func TestCellChooses(t *testing.T) {
	needRoot(t)
	c := newSite(t).cell(t, "--tier", cell.TierAuto, "--id-mapping", cell.IDsAuto)
	known := map[string]string{}
	for pair := range strings.SplitSeq(os.Getenv(kernelVar), ",") {
		key, value, _ := strings.Cut(pair, "=")
		known[key] = value
	}
	tier, tierWhy := cell.TierImage, "the kernel has EROFS and data-only overlay layers"
	if err := image.Probe(t.Context(), t.TempDir()); err != nil {
		tier, tierWhy = cell.TierTree, "this kernel cannot show images: "
		if !errors.Is(err, image.ErrUnsupported) {
			t.Fatal(err)
		}
	}
	ids, idsWhy := cell.IDsKernel, "the kernel can map the ids of FUSE mounts"
	if err := overlay.CanMap(c.dir + "/mnt"); err != nil {
		ids, idsWhy = cell.IDsDaemon, "cannot be mounted with mapped ids"
	}
	if tier != cmp.Or(known["tier"], tier) || ids != cmp.Or(known["ids"], ids) {
		t.Errorf("asked, the kernel says tier %s, ids %s; it is known to have %s", tier, ids, os.Getenv(kernelVar))
	}
	st := c.status()
	if st.Tier != tier || !strings.Contains(st.TierReason, tierWhy) || st.IDMapping != ids || !strings.Contains(st.MappingWhy, idsWhy) {
		t.Errorf("status: %s (%s), ids by the %s (%s); want %s (%s), %s (%s)",
			st.Tier, st.TierReason, st.IDMapping, st.MappingWhy, tier, tierWhy, ids, idsWhy)
	}
	said := run(t, "", c.s.bin+"/rootstock-cell", "status", "--socket", c.dir+"/cell.sock")
	for _, line := range []string{"tier        " + tier + " (" + st.TierReason, "id mapping  by the " + ids + " (" + st.MappingWhy} {
		if !strings.Contains(said, line) {
			t.Errorf("status says no %q:\n%s", line, said)
		}
	}
	t.Log(said)
	c.stop()
	for _, line := range []string{"containers get the " + tier + " tier", "ids of trees are mapped by the " + ids} {
		if n := strings.Count(c.log.String(), line); n != 1 {
			t.Errorf("%q is logged %d times:\n%s", line, n, c.log)
		}
	}
}
