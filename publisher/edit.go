package publisher

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/store"
)

// edit changes the repository: with the store locked, do works on top of the
// newest revision, and what it leaves in tx becomes the next one. Where do
// reports that nothing changed there is no new revision. It returns the number
// of the newest revision. What says in a few words what is done, for the lock,
// the log and the revision's tag.
func (p *Publisher) edit(ctx context.Context, what string,
	do func(ctx context.Context, h *head, tx *revision.Tx) (changed bool, err error),
) (uint64, error) {
	h, unlock, err := p.locked(ctx, what)
	if err != nil {
		return 0, err
	}
	defer unlock()
	tx, err := p.begin(ctx, h)
	if err != nil {
		return 0, err
	}
	defer tx.Close()
	changed, err := do(ctx, h, tx)
	if err != nil || !changed {
		return h.manifest.Revision, err
	}
	return p.commit(ctx, h, tx, cmp.Or(h.what, what))
}

// editTags changes the tags and nothing else: the revision stays, its manifest
// is signed anew (CVMFS-FORMAT 3.2).
func (p *Publisher) editTags(ctx context.Context, what string, tags retag) error {
	h, unlock, err := p.locked(ctx, what)
	if err != nil {
		return err
	}
	defer unlock()
	return p.seal(ctx, h, h.manifest, what, tags)
}

// locked takes the store's lock and reads the head. The caller calls unlock.
func (p *Publisher) locked(ctx context.Context, what string) (_ *head, unlock func(), err error) {
	if _, ok := p.o.Store.(store.Sharer); ok {
		told := time.AfterFunc(time.Second, func() {
			p.o.Log.Warn("another publisher has the repository; waiting for a turn", "to", what)
		})
		defer told.Stop()
	}
	release, err := p.o.Store.Lock(ctx, owner(what))
	if err != nil {
		return nil, nil, err
	}
	unlock = func() { release() } //nolint:errcheck // the lock ends with the process at the latest
	h, err := p.head(ctx)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	p.remind(h)
	return h, unlock, nil
}

// owner names this process for whoever finds the store locked.
func owner(what string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("rootstock (%s), process %d on %s", what, os.Getpid(), host)
}

// autoTag gives the new revision a tag of its own, and removes those that
// have had their time. The names are those stock tools give and clean up
// (CVMFS-FORMAT 3.2).
func (p *Publisher) autoTag(db *history.Writer, next manifest.Manifest, what string) error {
	if p.o.AutoTags <= 0 {
		return nil
	}
	now := p.o.Now()
	all, err := db.List()
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, t := range all {
		if history.IsAuto(t.Name) && t.Timestamp < now.Add(-p.o.AutoTags).Unix() {
			if err := db.Remove(t.Name); err != nil {
				return err
			}
			continue
		}
		taken[t.Name] = true
	}
	n := 0
	for taken[history.AutoName(now, n)] {
		n++
	}
	return db.Add(history.Tag{
		Name: history.AutoName(now, n), Root: next.RootCatalog, Revision: next.Revision,
		Timestamp: next.Published, Size: next.CatalogSize, Description: what,
	})
}
