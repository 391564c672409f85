// Package sbom writes an inventory as bills of materials in the formats that
// other tools read: SPDX 2.3 and CycloneDX 1.6, both as JSON.
//
// An [inventory.Inventory] goes in, a document comes out, the same bytes for
// the same inventory and time. What SPDX and CycloneDX have no word for (which
// file says so, what was not read) is kept in comments and properties.
package sbom

import (
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/inventory"
)

const tool = "rootstock"

// Subject is what a bill of materials is about.
type Subject struct {
	Inventory inventory.Inventory
	// Created is the document's time. The publisher gives the time of the
	// tree's newest file, so that one tree has one document.
	Created time.Time
}

// created is the time as both formats write it: whole seconds, UTC, within the
// years a JSON time can have.
func (s Subject) created() string {
	first, last := time.Unix(0, 0), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	t := s.Created
	if t.Before(first) {
		t = first
	}
	if t.After(last) {
		t = last
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// name calls the tree what can be told of it alone.
func (s Subject) name() string { return "tree-" + s.Inventory.Tree }

// unread is a sentence on a gap.
func unread(g inventory.Gap) string {
	return fmt.Sprintf("not read: %s (%s): %s", g.Path, g.Ecosystem, g.Reason)
}
