// Package status keeps .cvmfs_status.json, the unsigned file in which a server
// tells monitoring when it last collected garbage and checked the repository
// (CVMFS-FORMAT 1.1).
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/publisher/stored"
	"github.com/rootstock-cf/rootstock/store"
)

// attempts is how often a lost race against another writer is run again.
const attempts = 5

// GC records that garbage was collected at t.
func GC(ctx context.Context, st store.Store, t time.Time) error {
	return update(ctx, st, map[string]string{"last_gc": stamp(t)})
}

// Check records that the repository was checked at t, and what came of it.
func Check(ctx context.Context, st store.Store, t time.Time, clean bool) error {
	result := "failed"
	if clean {
		result = "succeeded"
	}
	return update(ctx, st, map[string]string{"last_check": stamp(t), "check_status": result})
}

// stamp is t as `date --utc` prints it, which stock tools write and read.
func stamp(t time.Time) string { return t.UTC().Format("Mon Jan _2 15:04:05 UTC 2006") }

// update sets keys and leaves all others. What is no JSON object is replaced.
func update(ctx context.Context, st store.Store, set map[string]string) error {
	for try := 0; ; try++ {
		old, err := stored.Root(ctx, st, stored.StatusFile, stored.MaxRootFile)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		all := map[string]any{}
		if json.Unmarshal(old, &all) != nil || all == nil {
			all = map[string]any{}
		}
		for k, v := range set {
			all[k] = v
		}
		next, err := json.Marshal(all)
		if err != nil {
			return fmt.Errorf("write %s: %w", stored.StatusFile, err)
		}
		err = st.Swap(ctx, stored.StatusFile, old, append(next, '\n'))
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) || try >= attempts {
			return fmt.Errorf("write %s: %w", stored.StatusFile, err)
		}
	}
}
