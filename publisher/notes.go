package publisher

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/packages"
	"github.com/rootstock-cf/rootstock/inventory/sbom"
	"github.com/rootstock-cf/rootstock/publisher/flatten"
	"github.com/rootstock-cf/rootstock/publisher/revision"
)

// Names of what is noted of every tree (docs/design/repository.md).
const (
	PackagesNote  = "packages.json"
	SPDXNote      = "sbom.spdx.json"
	CycloneDXNote = "sbom.cdx.json"
	// ReceiptNote is of a rootfs only: its makers' list of packages, as
	// they handed it out.
	ReceiptNote = "receipt"
)

// noteFiles are the notes a publish writes.
var noteFiles = []string{PackagesNote, SPDXNote, CycloneDXNote}

// watch lets c see the contents a reader of it wants.
func watch(c *packages.Collector) func(string, uint32, int64) flatten.Watcher {
	return func(path string, mode uint32, size int64) flatten.Watcher {
		if f := c.Watch(path, mode, size); f != nil {
			return f
		}
		return nil
	}
}

// note adds the notes of a tree to files. Contents that were met under other
// names only are read back from the store.
func (p *Publisher) note(
	ctx context.Context, files map[string][]byte, found *packages.Collector, id imagemeta.TreeID,
	entries []imagemeta.Entry, stored revision.Contents,
) error {
	if err := p.readBack(ctx, found, found.Missing(entries), stored); err != nil {
		return err
	}
	v := found.Inventory(id, entries)
	subject := sbom.Subject{Inventory: v, Created: newest(entries)}
	var list, spdx, cdx bytes.Buffer
	if err := inventory.Encode(&list, v); err != nil {
		return err
	}
	if err := sbom.SPDX(&spdx, subject); err != nil {
		return err
	}
	if err := sbom.CycloneDX(&cdx, subject); err != nil {
		return err
	}
	files[PackagesNote], files[SPDXNote], files[CycloneDXNote] = list.Bytes(), spdx.Bytes(), cdx.Bytes()
	return nil
}

// newest is the time of a tree's newest entry: documents about a tree that
// must have a time have this one, so that a tree has one document.
func newest(entries []imagemeta.Entry) time.Time {
	var last int64
	for i := range entries {
		last = max(last, entries[i].MTime)
	}
	return time.Unix(last, 0)
}

// fileNotes puts the notes among files into the tree's directory of notes,
// except those that are there.
func fileNotes(ctx context.Context, tx *revision.Tx, tree string, files map[string]imagemeta.Stored) error {
	dir := ownDir(notesDir, tree)
	if err := tx.MkdirAll(ctx, dir, catalog.Parent(dir)); err != nil {
		return err
	}
	names := noteFiles
	if _, ok := files[ReceiptNote]; ok {
		names = append(slices.Clone(names), ReceiptNote)
	}
	for _, name := range names {
		if _, ok, err := tx.Lookup(ctx, dir+"/"+name); err != nil {
			return err
		} else if ok {
			continue
		}
		if err := tx.AddFile(ctx, dir+"/"+name, files[name]); err != nil {
			return err
		}
	}
	return nil
}
