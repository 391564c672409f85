package publisher

import (
	"context"
	"errors"
	"fmt"

	"github.com/rootstock-cf/rootstock/publisher/revision"
)

// ErrNotBehind reports a repository that is not behind the revision it is said
// to be behind.
var ErrNotBehind = errors.New("the repository is not behind")

// Resume makes what the store holds, a copy that is behind what cells have
// seen, the revision that follows after: the highest number that anybody may
// have seen. Cells refuse a repository whose revisions begin again below that.
// Versions that only the lost revisions had are lost with them. It returns the
// new revision, or ErrNotBehind where the store's newest is not below after.
func (p *Publisher) Resume(ctx context.Context, after uint64) (uint64, error) {
	return p.edit(ctx, "resume", func(_ context.Context, h *head, tx *revision.Tx) (bool, error) {
		if after <= h.manifest.Revision {
			return false, fmt.Errorf("resume after revision %d: %w: the store is at %d; publish as usual", after, ErrNotBehind, h.manifest.Revision)
		}
		tx.Succeed(revision.Root{Hash: h.manifest.RootCatalog, Number: after})
		return true, nil
	})
}
