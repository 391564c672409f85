package fleet

import (
	"fmt"

	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/reference/rollout"
)

// leastEnds is how many containers have to have ended on the new version before
// a condition is believed: one crash is no trend.
const leastEnds = 3

// Side is how the containers of a channel fare on one of its versions.
type Side struct {
	Containers int   `json:"containers"`
	Ended      int   `json:"ended"`
	Seconds    int64 `json:"seconds"` // that containers ran, together
}

// PerHour is how many containers ended for each hour that one ran. Those that
// ended at once count as a second together.
func (s Side) PerHour() float64 {
	return float64(s.Ended) * 3600 / float64(max(s.Seconds, 1))
}

// Progress is how far a rollout is, by the word of cells.
type Progress struct {
	Cells int `json:"cells"` // that answered
	// Rings are the cells that are in each ring and in none before it, by
	// the ring's number, and last those in none.
	Rings []int `json:"rings"`
	// In are the cells in open rings; Joining those that the next step adds.
	In      int `json:"in"`
	Joining int `json:"joining"`
	// Lagging are cells in open rings that say that they follow the channel
	// elsewhere: they have not seen the newest revision.
	Lagging int `json:"lagging"`
	// Unknowing are cells of a release before rings: they follow the link.
	Unknowing int  `json:"unknowing"`
	New       Side `json:"new"` // containers by the channel on the rollout's tree
	Old       Side `json:"old"` // on all others
}

// ProgressOf counts. ref is the channel with its repository.
func ProgressOf(cells []Cell, ref reference.Reference, s *rollout.State) Progress {
	p := Progress{Rings: make([]int, len(s.Rings)+1)}
	for i := range cells {
		c := &cells[i]
		if c.Err != nil {
			continue
		}
		p.Cells++
		p.place(c, ref, s)
		for j := range c.Containers {
			if one := &c.Containers[j]; one.Ref == ref {
				p.side(one.Tree, s).Containers++
			}
		}
		for _, l := range c.Lives {
			if l.Ref == ref {
				side := p.side(l.Tree, s)
				side.Ended += l.Ended
				side.Seconds += l.Seconds
			}
		}
	}
	return p
}

func (p *Progress) side(tree string, s *rollout.State) *Side {
	if tree == s.Tree {
		return &p.New
	}
	return &p.Old
}

// place finds the ring of a cell.
func (p *Progress) place(c *Cell, ref reference.Reference, s *rollout.State) {
	if c.ID == "" {
		p.Unknowing++
		return
	}
	self := rollout.Cell{ID: c.ID, Labels: c.Labels}
	all := *s
	at := len(s.Rings)
	for all.Open = len(s.Rings); all.Open > 0; all.Open-- {
		if _, in := all.In(self); !in {
			break
		}
		at = all.Open - 1
	}
	p.Rings[at]++
	_, in := s.In(self)
	switch {
	case !in && s.InAfter(self):
		p.Joining++
	case in:
		p.In++
		for _, l := range c.Leads {
			if l.Ref == ref && l.Tree != s.Tree {
				p.Lagging++
			}
		}
	}
}

// Holds reports whether c says that a rollout is to stop, and why.
func (p *Progress) Holds(c rollout.Condition) (why string, holds bool) {
	now, was := p.New.PerHour(), p.Old.PerHour()
	if p.New.Ended < leastEnds || now <= c.Factor*was {
		return "", false
	}
	return fmt.Sprintf("%s: %.3g per container and hour on the new version (%d), %.3g on the one before (%d)",
		c, now, p.New.Ended, was, p.Old.Ended), true
}

// Stop is why a rollout is to stop by its own conditions; "" if it is not.
func (p *Progress) Stop(s *rollout.State) string {
	for _, c := range s.HaltOn {
		if why, holds := p.Holds(c); holds {
			return why
		}
	}
	return ""
}
