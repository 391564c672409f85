package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
)

// Root files that a replica writes (CVMFS-FORMAT 1.1).
const (
	markerFile       = ".cvmfs_master_replica"
	snapshottingFile = ".cvmfs_is_snapshotting"
	lastFile         = ".cvmfs_last_snapshot"
	statusFile       = ".cvmfs_status.json"
	reflogFile       = ".cvmfsreflog"
	// partialFile and collectingFile are ours. The second is there while
	// garbage is collected, and after that was cut off: until it has been
	// done, the presence of a catalog means nothing.
	partialFile    = ".cvmfs_partial.json"
	collectingFile = ".cvmfs_collecting"
)

// stamp is the time as `date --utc` prints it.
func stamp(t time.Time) []byte { return []byte(t.UTC().Format(time.UnixDate) + "\n") }

// finish makes the revision visible: reflog, whitelist, then the manifest, once
// all that they need is durable.
func (r *Replicator) finish(ctx context.Context, h *head, old *before, roots []object.Hash, dir string) error {
	to := r.o.To
	if err := to.Sync(ctx); err != nil {
		return err
	}
	if err := r.markPartial(ctx, old); err != nil {
		return err
	}
	if err := r.refer(ctx, h.manifest, roots, filepath.Join(dir, "reflog")); err != nil {
		return fmt.Errorf("reflog: %w", err)
	}
	if h.manifest.AltPaths {
		if err := r.alternatives(ctx, h.manifest); err != nil {
			return err
		}
	}
	if err := to.Put(ctx, manifest.WhitelistName, h.whitelist); err != nil {
		return err
	}
	if err := to.Swap(ctx, manifest.FileName, old.raw, h.published); err != nil {
		return err
	}
	if err := r.unmarkPartial(ctx, old); err != nil {
		return err
	}
	now := r.o.Now()
	if err := to.Put(ctx, lastFile, stamp(now)); err != nil {
		return err
	}
	return r.status(ctx, now)
}

// markPartial notes before the manifest is there that it does not mean all of
// the repository. Such a replica is not to be replicated in turn.
func (r *Replicator) markPartial(ctx context.Context, old *before) error {
	if len(r.o.Only) == 0 {
		return nil
	}
	raw, err := json.Marshal(partial{texts(r.o.Only)})
	if err != nil {
		return err
	}
	if err := r.o.To.Put(ctx, partialFile, append(raw, '\n')); err != nil {
		return err
	}
	if old.whole {
		return remove(ctx, r.o.To, markerFile)
	}
	return nil
}

// unmarkPartial notes after the manifest that a whole repository is here, which
// may be replicated in turn.
func (r *Replicator) unmarkPartial(ctx context.Context, old *before) error {
	if len(r.o.Only) > 0 {
		return nil
	}
	if !old.whole {
		if err := remove(ctx, r.o.To, partialFile); err != nil {
			return err
		}
	}
	return r.o.To.Put(ctx, markerFile, []byte("This server may be replicated from.\n"))
}

func remove(ctx context.Context, st store.Store, name string) error {
	_, there, err := st.Has(ctx, name)
	if err != nil || !there {
		return err
	}
	d, ok := st.(store.Deleter)
	if !ok {
		return fmt.Errorf("%s has to be removed, which this store cannot do", name)
	}
	return d.Delete(ctx, name)
}

// refer adds what this run has copied to the replica's own reflog.
func (r *Replicator) refer(ctx context.Context, m manifest.Manifest, roots []object.Hash, file string) error {
	raw, err := readRoot(ctx, r.o.To, reflogFile, maxReflog)
	if err != nil {
		return err
	}
	var db *reflog.Log
	if raw == nil {
		db, err = reflog.Create(file, m.Name)
	} else if err = os.WriteFile(file, raw, 0o600); err == nil {
		db, err = reflog.Open(file)
	}
	if err != nil {
		return err
	}
	defer db.Close()
	now := r.o.Now().Unix()
	all := []ref{{m.Certificate, object.Certificate}, {m.History, object.History}, {m.Metainfo, object.Metainfo}}
	for _, h := range roots {
		all = append(all, ref{h, object.Catalog})
	}
	for _, x := range all {
		if x.hash.IsZero() {
			continue
		}
		if listed, err := db.Has(x.hash); err != nil {
			return err
		} else if listed {
			continue // its time is that of its first copy
		}
		if err := db.Add(x.hash, x.typ, now); err != nil {
			return err
		}
	}
	if err := db.Finish(); err != nil {
		return err
	}
	if raw, err = os.ReadFile(file); err != nil {
		return err
	}
	return r.o.To.Put(ctx, reflogFile, raw)
}

// alternatives stores a copy of the objects a client starts with under the names
// it asks for (CVMFS-FORMAT 1.3), since not every store has links.
func (r *Replicator) alternatives(ctx context.Context, m manifest.Manifest) error {
	for _, x := range []ref{
		{m.RootCatalog, object.Catalog},
		{m.Certificate, object.Certificate},
		{m.History, object.History},
		{m.Metainfo, object.Metainfo},
	} {
		if x.hash.IsZero() {
			continue
		}
		raw, err := readRoot(ctx, r.o.To, x.name(), maxCatalog)
		if err != nil {
			return err
		}
		if err := r.o.To.Put(ctx, ".cvmfsalt-"+x.hash.String()+string(rune(x.typ)), raw); err != nil {
			return err
		}
	}
	return nil
}

// status notes the time in the status file and leaves what else it says.
func (r *Replicator) status(ctx context.Context, now time.Time) error {
	raw, err := readRoot(ctx, r.o.To, statusFile, maxRootFile)
	if err != nil {
		return err
	}
	says := map[string]any{}
	if raw != nil {
		if err := json.Unmarshal(raw, &says); err != nil {
			r.o.Log.Warn("status file is begun anew", "file", statusFile, "error", err)
			says = map[string]any{}
		}
	}
	says["last_snapshot"] = now.UTC().Format(time.UnixDate)
	if raw, err = json.MarshalIndent(says, "", "  "); err != nil {
		return err
	}
	return r.o.To.Put(ctx, statusFile, append(raw, '\n'))
}
