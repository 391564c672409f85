package image

import (
	"context"
	"sync"

	"github.com/rootstock-cf/rootstock/fusefs/objects"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// Exposure is what containers would miss without this process.
type Exposure struct {
	// Bytes are those of trees in use that are not in the cache; what two
	// trees lack counts twice.
	Bytes int64
	// Bound is how many contents were opened through the objects mount since
	// a tree in use came to have them: overlays may read those through it
	// until the kernel drops them, though they are cached. Some may have been
	// dropped; those of an earlier process are not counted.
	Bound int
	Trees map[imagemeta.TreeID]int64 // Bytes of each
}

// Exposure reports the present state. It waits, as long as ctx lasts, for trees
// that have just come into use to be counted.
func (t *Tier) Exposure(ctx context.Context) (e Exposure, err error) {
	e.Trees, err = t.contents.Absent(ctx)
	for _, n := range e.Trees {
		e.Bytes += n
	}
	e.Bound = t.bound.len()
	return e, err
}

// maxBound bounds the contents that are remembered: 32 bytes each.
const maxBound = 1 << 18

// bound are contents that the kernel opened through us.
type bound struct {
	mu  sync.Mutex
	all map[object.ContentID]struct{}
}

func (b *bound) add(id object.ContentID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		b.all = map[object.ContentID]struct{}{}
	}
	if len(b.all) < maxBound {
		b.all[id] = struct{}{}
	}
}

func (b *bound) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.all)
}

// prune forgets what no tree in use has any more.
func (b *bound) prune(used func(object.ContentID) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.all {
		if !used(id) {
			delete(b.all, id)
		}
	}
}

// noted tells of each content that is opened.
type noted struct {
	objects.Source
	t *Tier
}

// Open implements objects.Source.
func (n noted) Open(ctx context.Context, id object.ContentID) (view.Content, error) {
	n.t.waiting.Add(1)
	defer n.t.waiting.Add(-1)
	c, err := n.Source.Open(ctx, id)
	if err == nil {
		n.t.bound.add(id)
		if n.t.o.Opened != nil {
			n.t.o.Opened(id)
		}
	}
	return c, err
}
