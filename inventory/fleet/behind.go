package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/reference"
)

// ErrNoLead reports a channel that no cell knows.
var ErrNoLead = errors.New("no cell knows where it leads")

// Outdated is a container that does not stand on the tree that a channel leads
// to.
type Outdated struct {
	Cell string
	Container
	// Follows says that the container was asked for by that channel, so that
	// a restart moves it. Others were asked for by a version or another
	// channel.
	Follows bool
}

// Behind returns the containers of ref's name that do not stand on the tree ref
// leads to on their cell, and where it leads, in each repository that has the
// name: all, if ref names none. While a version is rolled out a channel leads to
// two. The error wraps [ErrNoLead] if containers on that name run,
// and no cell knows the channel.
func Behind(cells []Cell, ref reference.Reference) ([]Outdated, []Lead, error) {
	leads := LeadsOf(cells)
	var all []Outdated
	to := map[Lead]bool{}
	for i := range cells {
		leads := leads.Of(&cells[i])
		for _, one := range cells[i].Containers {
			at := one.Ref.Repository
			if one.Ref.Kind != ref.Kind || one.Ref.Name != ref.Name || ref.Repository != "" && ref.Repository != at {
				continue
			}
			want := ref
			want.Repository = at
			lead, ok := leads[want]
			if !ok || lead.Gone {
				return nil, nil, fmt.Errorf("%s: %w", want, ErrNoLead)
			}
			to[Lead{Ref: want, Version: lead.Version, Tree: lead.Tree}] = true
			if lead.leaves(one.Tree) {
				all = append(all, Outdated{Cell: cells[i].Name, Container: one, Follows: one.Ref == want})
			}
		}
	}
	var known []Lead
	for l := range to {
		known = append(known, l)
	}
	slices.SortFunc(known, func(a, b Lead) int {
		return cmp.Or(strings.Compare(a.Ref.String(), b.Ref.String()), strings.Compare(a.Version, b.Version))
	})
	return all, known, nil
}

// Restart is an app to be restarted, once for all its containers.
type Restart struct {
	App
	Wave       int // from 1
	Containers int // outdated ones
}

// Restarts orders the apps of outdated containers that a restart moves into
// waves of at most size apps. Tasks and staging end by themselves. The order is
// that of the guids, which are random: neighbours in a space or on a cell do
// not go at once, and asking again gives the same order. unknown counts
// containers of which no app is known.
func Restarts(outdated []Outdated, size int) (all []Restart, unknown int) {
	at := map[string]int{}
	for _, o := range outdated {
		switch {
		case !o.Follows, o.Workload != "" && o.Workload != "app":
		case !isGUID(o.GUID):
			unknown++
		default:
			i, ok := at[o.GUID]
			if !ok {
				i = len(all)
				at[o.GUID] = i
				all = append(all, Restart{App: o.App})
			}
			all[i].Containers++
		}
	}
	slices.SortFunc(all, func(a, b Restart) int { return cmp.Compare(a.GUID, b.GUID) })
	for i := range all {
		all[i].Wave = i/max(size, 1) + 1
	}
	return all, unknown
}

// Command is what to type. Where names are not known, or could not be typed, the
// app is restarted by its guid.
func (r *Restart) Command() string {
	if typeable(r.AppName) && typeable(r.SpaceName) && typeable(r.OrgName) {
		return fmt.Sprintf("cf target -o %s -s %s && cf restart %s", shell(r.OrgName), shell(r.SpaceName), shell(r.AppName))
	}
	return "cf curl -X POST " + shell("/v3/apps/"+r.GUID+"/actions/restart")
}

// isGUID accepts what may be put into a path.
func isGUID(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// typeable is false for names that are empty, would be taken for an option, or
// hold what does not print.
func typeable(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}

// shell quotes for sh.
func shell(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
