package store_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/store"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{
		".cvmfspublished", ".cvmfs_status.json", ".cvmfsalt-9c44ddbcf56870b191201c7e0d7072a791cd7dcbC", "data", "data/5f/98f7P",
		"stats/stats.db", "data/txn2", "data/5f/x.rootstock", strings.Repeat("x", 1024),
	} {
		if err := store.CheckName(name); err != nil {
			t.Errorf("%.40q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "/x", "x/", "x//y", "x/../y", "./x", "x/.", "data/txn", "data/txn/x", ".rootstock.lock",
		"data/.rootstock.dirty", "x y", "x\ty", "x\x00", "x\x7f", `x\y`, "é", strings.Repeat("x", 1025),
	} {
		if err := store.CheckName(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}
