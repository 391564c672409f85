package gc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/stored"
	"github.com/rootstock-cf/rootstock/store"
)

// On a replica the presence of a catalog means that all below it is there, see
// package replica. So no catalog may outlive what it refers to: those that are
// not kept go whatever their age, and while they go, and if that was cut off, a
// file says that presence means nothing.
const (
	collectingFile = ".cvmfs_collecting"
	snapshotFile   = ".cvmfs_last_snapshot"
	partialFile    = ".cvmfs_partial.json"
)

// readReplica reads the manifest of a replica and verifies it. Nothing is signed
// there, so nobody needs the release key.
func readReplica(ctx context.Context, st store.Store, trust manifest.Trust, now time.Time) (*head, error) {
	if _, there, err := st.Has(ctx, snapshotFile); err != nil {
		return nil, err
	} else if !there {
		return nil, fmt.Errorf("%w: it has no %s; collect with the keys that publish here", ErrNotReplica, snapshotFile)
	}
	if _, part, err := st.Has(ctx, partialFile); err != nil {
		return nil, err
	} else if part {
		return nil, fmt.Errorf("%w of the whole repository, but of some trees; begin with an empty store instead", ErrNotReplica)
	}
	raw, err := stored.Root(ctx, st, stored.ManifestFile, stored.MaxRootFile)
	if err != nil {
		return nil, err
	}
	list, err := stored.Root(ctx, st, manifest.WhitelistName, stored.MaxRootFile)
	if err != nil {
		return nil, err
	}
	env, err := manifest.Open(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stored.ManifestFile, err)
	}
	m, err := manifest.Parse(env.Body) // whose name the whitelist has to confirm
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stored.ManifestFile, err)
	}
	v, err := trust.Verify(ctx, m.Name, raw, list, func(ctx context.Context, h object.Hash) ([]byte, error) {
		return stored.Small(ctx, st, h, object.Certificate, stored.MaxRootFile)
	}, now)
	if err != nil {
		return nil, err
	}
	m = v.Manifest
	if !m.GarbageCollectable {
		return nil, fmt.Errorf("%s: %w", m.Name, ErrNotCollectable)
	}
	log, err := stored.Root(ctx, st, stored.ReflogFile, stored.MaxReflog)
	if err == nil && m.RootCatalog.Algorithm.Sum(log) == m.Reflog {
		return nil, fmt.Errorf("%w: the manifest names its reflog, so it is published to; collect with the keys that publish here", ErrNotReplica)
	} else if err != nil && !errors.Is(err, store.ErrNotExist) {
		return nil, err
	}
	return &head{raw, m}, nil
}

// untrue tells of a catalog that must go however young it is.
func (c *collector) untrue(f found) bool {
	return c.o.Keys == nil && f.typ == object.Catalog
}

func (c *collector) beginReplica(ctx context.Context) error {
	if c.o.Keys != nil || c.o.DryRun {
		return nil
	}
	return c.st.Put(ctx, collectingFile, []byte("Objects are being deleted, or were when it was cut off.\n"))
}

func (c *collector) endReplica(ctx context.Context) error {
	if c.o.Keys != nil || c.o.DryRun {
		return nil
	}
	return c.st.Delete(ctx, collectingFile)
}
