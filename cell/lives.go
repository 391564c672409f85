package cell

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/reference"
)

// maxLives bounds the references and trees whose containers' ends are counted.
const maxLives = 64

// lives counts how containers fare: how many of those on a tree ended, and how
// long they ran, since the daemon came up. It tells a version whose apps crash
// from one whose apps do not.
type lives struct {
	since time.Time
	mu    sync.Mutex
	by    map[lifeKey]*fleet.Life
}

type lifeKey struct {
	ref  reference.Reference
	tree string
}

// end counts a container that is gone. One that went because the cell is being
// emptied did not end by itself, but its time counts.
func (l *lives) end(ref reference.Reference, p pin, now time.Time, drained bool) {
	if strings.Contains(p.Handle, "+") {
		return // the buildpack of a container that counts itself
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := lifeKey{ref, p.Tree}
	one, ok := l.by[k]
	if !ok {
		if l.by == nil {
			l.by = map[lifeKey]*fleet.Life{}
		}
		if len(l.by) >= maxLives {
			l.forget()
		}
		one = &fleet.Life{Ref: ref, Tree: p.Tree}
		l.by[k] = one
	}
	if !drained {
		one.Ended++
	}
	one.Seconds += l.ran(&p, now)
}

// forget drops what was counted least. Callers hold mu.
func (l *lives) forget() {
	var least lifeKey
	for k, one := range l.by {
		if was, ok := l.by[least]; !ok || one.Seconds < was.Seconds {
			least = k
		}
	}
	delete(l.by, least)
}

// ran is how many seconds a container ran while this was counted.
func (l *lives) ran(p *pin, now time.Time) int64 {
	from := p.Since
	if from.Before(l.since) {
		from = l.since
	}
	return max(int64(now.Sub(from)/time.Second), 0)
}

// with is what was counted, and the time of containers that run.
func (l *lives) with(running []pin, whole func(reference.Reference) reference.Reference, now time.Time) []fleet.Life {
	l.mu.Lock()
	by := make(map[lifeKey]fleet.Life, len(l.by))
	for k, one := range l.by {
		by[k] = *one
	}
	l.mu.Unlock()
	for i := range running {
		p := &running[i]
		if strings.Contains(p.Handle, "+") {
			continue
		}
		k := lifeKey{whole(p.Ref), p.Tree}
		one := by[k]
		one.Ref, one.Tree = k.ref, k.tree
		one.Seconds += l.ran(p, now)
		by[k] = one
	}
	all := make([]fleet.Life, 0, len(by))
	for _, one := range by {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b fleet.Life) int {
		return strings.Compare(a.Ref.String()+" "+a.Tree, b.Ref.String()+" "+b.Tree)
	})
	return all
}
