package flatten

import (
	"context"
	"fmt"
	"strings"
)

// apply puts the entries of one layer onto the tree of those below it.
// Whiteouts come first, wherever they stand in the layer: they speak of lower
// layers only.
func (n *node) apply(ctx context.Context, s *scan) error {
	gone, err := n.whiteouts(s)
	if err != nil {
		return err
	}
	for i := range s.records {
		r := &s.records[i]
		if err := ctx.Err(); err != nil {
			return s.wrap(err)
		}
		switch r.kind {
		case entry:
			err = n.add(r.path, r.ino)
		case hardlink:
			err = n.link(r, gone)
		}
		if err != nil {
			return s.wrap(fmt.Errorf("%q: %w", r.path, err))
		}
	}
	return nil
}

// removal is what a whiteout took away, for hard links that come before it in
// the same layer.
type removal struct {
	node   *node
	number int32
}

func (n *node) whiteouts(s *scan) (map[string]removal, error) {
	var gone map[string]removal
	var own map[string]bool // directories that the layer itself brings
	avoid := func(written string) bool {
		if own == nil {
			own = map[string]bool{}
			for i := range s.records {
				if r := &s.records[i]; r.kind == entry && r.ino.isDir() {
					own[r.path] = true
				}
			}
		}
		return own[written]
	}
	for i := range s.records {
		r := &s.records[i]
		where, base := r.path, ""
		switch r.kind {
		case whiteout:
			where, base = split(r.path)
		case opaque:
		default:
			continue
		}
		d, err := n.dir(where, false, avoid)
		if err != nil {
			return nil, s.wrap(fmt.Errorf("whiteout of %q: %w", r.path, err))
		}
		if d == nil || r.kind == whiteout && d.children[base] == nil {
			continue // nothing to hide, as extractors have it
		}
		if gone == nil {
			gone = map[string]removal{}
		}
		if r.kind == opaque {
			for name, c := range d.children {
				gone[join(r.path, name)] = removal{c, r.number}
			}
			d.children = nil
			continue
		}
		gone[r.path] = removal{d.children[base], r.number}
		delete(d.children, base)
	}
	return gone, nil
}

func (n *node) add(p string, ino *inode) error {
	if p == "" {
		if !ino.isDir() {
			return fmt.Errorf("%w: the root is not a directory", ErrConflict)
		}
		n.ino = ino
		return nil
	}
	parent, base := split(p)
	d, err := n.dir(parent, true, nil)
	if err != nil {
		return err
	}
	d.put(base, ino)
	return nil
}

// link gives the entry at r.target another name. Its header's own metadata
// counts for nothing: there is only one inode.
func (n *node) link(r *record, gone map[string]removal) error {
	old, err := n.find(r.target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", r.target, err)
	}
	if old == nil {
		old = lost(r, gone)
	}
	switch {
	case old == nil:
		return fmt.Errorf("%w: hard link to %q, which is not there", ErrConflict, r.target)
	case old.ino.isDir():
		return fmt.Errorf("%w: hard link to %q, a directory", ErrConflict, r.target)
	case r.path == "":
		return fmt.Errorf("%w: the root is not a directory", ErrConflict)
	}
	parent, base := split(r.path)
	d, err := n.dir(parent, true, nil)
	if err != nil {
		return err
	}
	if d.children[base] != nil && d.children[base].ino == old.ino {
		return nil // already that, or a link to itself
	}
	d.put(base, old.ino)
	return nil
}

// lost finds a link's target among what whiteouts later in the layer remove.
// It follows no links: their targets may be gone as well.
func lost(r *record, gone map[string]removal) *node {
	for p := r.target; p != ""; p, _ = split(p) {
		g, ok := gone[p]
		if !ok || r.number > g.number {
			continue
		}
		at := g.node
		for rest := strings.TrimPrefix(r.target[len(p):], "/"); rest != "" && at != nil; {
			var c string
			c, rest, _ = strings.Cut(rest, "/")
			at = at.children[c]
		}
		return at
	}
	return nil
}
