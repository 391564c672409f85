package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/gc"
)

// What cells run is leased: trees and catalogs of this repository, and of
// containers whose repository is not said. A cell that does not tell everything
// is an error, unless the grace period stands in for it.
func TestFleetLeases(t *testing.T) {
	tree := func(n string) string { return strings.Repeat(n, 64) }
	container := func(ref, tree, catalog string) string {
		return `{"handle":"h","ref":"` + ref + `","tree":"` + tree + `","catalog":"` + catalog + `"}`
	}
	const ours = "cvmfs://r.example.org/rootfs/demo@1"
	catalog := strings.Repeat("c", 40)
	for name, tc := range map[string]struct {
		document string
		blind    bool
		trees    int
		catalogs int
		err      error
	}{
		"image":       {document: container(ours, tree("1"), ""), trees: 1},
		"catalog":     {document: container(ours, "", catalog), catalogs: 1},
		"both":        {document: container(ours, tree("1"), catalog), trees: 1, catalogs: 1},
		"another's":   {document: container("cvmfs://s.example.org/rootfs/demo@1", tree("1"), "")},
		"no name":     {document: container("rootfs/demo@1", tree("1"), ""), trees: 1},
		"neither":     {document: container(ours, "", ""), err: gc.ErrLease},
		"half a tree": {document: container(ours, "12", ""), err: gc.ErrLease},
		"missing":     {document: container(ours, tree("1"), "") + `],"missing":[{"repository":"r.example.org","reason":"x"}`, err: gc.ErrBlind},
		"made up for": {document: container(ours, tree("1"), "") + `],"missing":[{"repository":"r.example.org","reason":"x"}`, blind: true, trees: 1},
	} {
		text := `{"containers":[` + tc.document
		if !strings.Contains(text, `"missing"`) {
			text += "]"
		} else {
			text = strings.TrimSuffix(text, "]") + "]"
		}
		file := filepath.Join(t.TempDir(), "cells.json")
		if err := os.WriteFile(file, []byte(text+"}"), 0o600); err != nil {
			t.Fatal(err)
		}
		var warned bytes.Buffer
		s := leaseSources{cells: &cellFlags{}, repository: "r.example.org", blind: tc.blind, warn: &warned}
		l, err := s.read(t.Context(), []string{"fleet:" + file})
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, want %v", name, err, tc.err)
			continue
		}
		if err != nil {
			continue
		}
		if len(l.Trees) != tc.trees || len(l.Catalogs) != tc.catalogs || (warned.Len() > 0) != tc.blind {
			t.Errorf("%s: %+v, warned %q", name, l, &warned)
		}
		if id, _ := object.ParseContentID(tree("1")); tc.trees > 0 && !l.Trees[id] {
			t.Errorf("%s: %+v", name, l)
		}
	}
	s := leaseSources{cells: &cellFlags{}, repository: "r.example.org"}
	if _, err := s.read(t.Context(), []string{"fleet:" + filepath.Join(t.TempDir(), "not.there")}); !errors.Is(err, gc.ErrBlind) {
		t.Errorf("a cell that does not answer: %v", err)
	}
	if _, err := s.read(t.Context(), []string{"fleet:"}); err == nil {
		t.Error("no cell is no lease source")
	}
}
