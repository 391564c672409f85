package cell

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/reference"
)

const (
	channelsDir = "/channels/"
	// maxChannels bounds the channels of one name that are reported.
	maxChannels = 256
)

// leads remembers where references lead in the revision that is shown.
type leads struct {
	mu   sync.Mutex
	root object.Hash
	all  map[reference.Reference]fleet.Lead
	// channels of names, by the directory they lie in.
	channels map[string][]string
}

// leadsOf says where the references lead that containers were asked for by, and
// all channels of their names. What cannot be found out for want of a network is
// left out: nothing is said about it.
func (m *mounted) leadsOf(ctx context.Context, list []control.Container) []fleet.Lead {
	l := &m.leads
	l.mu.Lock()
	defer l.mu.Unlock()
	s := m.repo.Status()
	if s.RootHash != l.root || l.all == nil {
		l.root, l.all, l.channels = s.RootHash, map[reference.Reference]fleet.Lead{}, map[string][]string{}
	}
	wanted := map[reference.Reference]bool{}
	for _, c := range list {
		ref := m.whole(c.Ref)
		wanted[ref] = true
		for _, channel := range m.channels(ctx, ref) {
			if to := ref.WithChannel(channel); to.Validate() == nil {
				wanted[to] = true
			}
		}
	}
	var out []fleet.Lead
	for ref := range wanted {
		lead, ok := l.all[ref]
		if !ok {
			found, err := m.resolver().resolve(ctx, ref)
			gone := errors.Is(err, control.ErrNotFound)
			if err != nil && !gone {
				continue
			}
			lead = fleet.Lead{Ref: ref, Version: found.lower.Version, Tree: found.lower.Tree, Gone: gone}
			if found.ring != nil {
				lead.Other = m.resolver().other(ctx, ref, &found)
				if found.ring.in {
					lead.Ring = found.ring.name
				}
			}
			l.all[ref] = lead
		}
		lead.Revision = s.Revision
		out = append(out, lead)
	}
	slices.SortFunc(out, func(a, b fleet.Lead) int { return strings.Compare(a.Ref.String(), b.Ref.String()) })
	return out
}

// channels lists those of ref's name. Callers hold the lock of m.leads.
func (m *mounted) channels(ctx context.Context, ref reference.Reference) []string {
	if ref.Path != "" || ref.Kind == reference.Images {
		return nil
	}
	dir := channelsDir + string(ref.Kind) + "/" + ref.Name
	if known, ok := m.leads.channels[dir]; ok {
		return known
	}
	var names []string
	at, err := m.resolver().walk(ctx, dir)
	if err == nil {
		err = m.repo.ReadDir(ctx, at.node, 0, func(name string, _ view.Node, a view.Attr) bool {
			// Beside a channel there may be a file of that name and .json.
			if a.Mode&modeType == modeSymlink {
				names = append(names, name)
			}
			return len(names) < maxChannels
		})
	}
	if err == nil || errors.Is(kind(err), control.ErrNotFound) {
		m.leads.channels[dir] = names
	}
	return names
}

// whole is a reference with its repository.
func (m *mounted) whole(ref reference.Reference) reference.Reference {
	ref.Repository = m.o.Name
	return ref
}
