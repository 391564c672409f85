package cell

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/reference/rollout"
)

// resolver finds references in the repository's shown revision, as this cell
// follows channels.
func (m *mounted) resolver() resolver {
	o := &m.cell.o
	return resolver{v: m.repo, self: rollout.Cell{ID: o.CellID, Labels: o.Labels}, log: o.Log}
}

// ring says where a channel leads this cell, by the channel's record: nil for a
// channel without a rollout. What the record says is decided here and now,
// without a network if the record is in the cache. A record that cannot be had
// or understood keeps no container from being made: the link then decides, as it
// does for all who know of no rings.
func (r resolver) ring(ctx context.Context, ref reference.Reference, channel string) *ringed {
	record, err := r.read(ctx, channel+".json", rollout.MaxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a link that somebody made by hand
	}
	var s *rollout.State
	if err == nil {
		s, err = rollout.Parse(record)
	}
	if err != nil {
		r.log.Warn("where a channel's rollout leads is not known; its link is followed", "channel", ref.String(), "error", err)
		return nil
	}
	if s == nil {
		return nil
	}
	name, in := s.In(r.self)
	return &ringed{state: s, name: name, in: in, path: path.Join(ref.ChannelsDir(), s.Target)}
}

// ringed is a rollout as this cell sees it.
type ringed struct {
	state *rollout.State
	name  string // of the ring that the cell is in
	in    bool
	path  string // of the tree that rings get
}

// follow resolves a channel: to the rollout's tree in its rings, to the link's
// elsewhere.
func (r resolver) follow(ctx context.Context, ref reference.Reference, channel string) (resolved, error) {
	ring := r.ring(ctx, ref, channel)
	if ring != nil && ring.in {
		found, err := r.walk(ctx, ring.path)
		if err == nil {
			found.lower.Version, found.ring = ring.state.Version, ring
			return found, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return resolved{}, err
		}
		r.log.Warn("a rollout leads nowhere; the channel's link is followed", "channel", ref.String(), "path", ring.path)
		ring.in = false
	}
	found, err := r.walk(ctx, channel)
	if err == nil {
		found.lower.Version, found.ring = path.Base(found.path), ring
	}
	return found, err
}

// other is the tree that cells on the other side of a channel's rollout get; ""
// if there is no rollout.
func (r resolver) other(ctx context.Context, ref reference.Reference, found *resolved) string {
	if found.ring == nil {
		return ""
	}
	if !found.ring.in {
		return found.ring.state.Tree
	}
	channel, _ := ref.RepositoryPath()
	linked, err := r.walk(ctx, channel)
	if err != nil {
		return ""
	}
	tree, err := r.v.XAttr(ctx, linked.node, attrTree)
	if err != nil {
		return ""
	}
	return string(tree)
}
