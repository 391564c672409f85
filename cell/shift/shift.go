// Package shift shows repositories to containers that have a user namespace, on
// kernels that cannot map the ids of a FUSE mount: it answers with other ids.
//
// A view of a repository flows in, and for each mapping that a container asks
// for, a mount flows out on which everything belongs to whom that mapping makes
// of its owner. It is to a container what an idmapped clone of the repository's
// own mount would be: owners, the ids within access control lists, and the root
// user whom file capabilities count for (capabilities(7), "Namespaced file
// capabilities").
//
// An id outside the mapping is nobody in the container, as it is to the kernel:
// it becomes an id of the host that the mapping does not reach, so that the
// container sees the overflow id and no process in it has that one's rights.
package shift

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// overflow is the id that stat(2) shows for those it has none for.
const overflow = 65534

// Bits of st_mode.
const (
	modeType    = 0o170000
	modeRegular = 0o100000
	modeSetIDs  = 0o6000
)

// ids translates by one mapping, which is valid and not the zero one.
type ids struct {
	uids, gids             []overlay.IDRange
	outsideUID, outsideGID uint32
}

func newIDs(m overlay.Mapping) *ids {
	return &ids{uids: m.UIDs, gids: m.GIDs, outsideUID: outside(m.UIDs), outsideGID: outside(m.GIDs)}
}

// outside returns an id of the host that no id of the container is: the
// overflow id, unless that one belongs to the container, or the lowest. There
// always is one where something can be outside, for as many ids of the host are
// mapped as of the container.
func outside(ranges []overlay.IDRange) uint32 {
	byHost := slices.SortedFunc(slices.Values(ranges), func(a, b overlay.IDRange) int { return cmp.Compare(a.Host, b.Host) })
	lowest := uint32(0)
	taken := false
	for _, r := range byHost {
		if r.Host == lowest {
			lowest += r.Size
		}
		taken = taken || overflow >= r.Host && overflow-r.Host < r.Size
	}
	if taken {
		return lowest
	}
	return overflow
}

func (t *ids) uid(id uint32) (host uint32, ok bool) { return lookup(t.uids, id, t.outsideUID) }
func (t *ids) gid(id uint32) (host uint32, ok bool) { return lookup(t.gids, id, t.outsideGID) }

func lookup(ranges []overlay.IDRange, id, otherwise uint32) (uint32, bool) {
	for _, r := range ranges {
		if id >= r.Container && id-r.Container < r.Size {
			return r.Host + (id - r.Container), true
		}
	}
	return otherwise, false
}

// attr translates an owner. The kernel ignores set-id bits of files whose owner
// or group a user namespace does not have; here that id is one of the host's, so
// the bits go.
func (t *ids) attr(a *view.Attr) {
	uid, okUID := t.uid(a.UID)
	gid, okGID := t.gid(a.GID)
	a.UID, a.GID = uid, gid
	if (!okUID || !okGID) && a.Mode&modeType == modeRegular {
		a.Mode &^= modeSetIDs
	}
}

// key names a mapping: the same ranges in any order have the same.
func key(m overlay.Mapping) string {
	h := sha256.New()
	for _, side := range [][]overlay.IDRange{m.UIDs, m.GIDs} {
		for _, r := range slices.SortedFunc(slices.Values(side), func(a, b overlay.IDRange) int { return cmp.Compare(a.Container, b.Container) }) {
			fmt.Fprintf(h, "%d %d %d\n", r.Container, r.Host, r.Size)
		}
		fmt.Fprintln(h)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
