package audit

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/object"
)

// Openings tells what was opened where.
type Openings struct {
	// Files returns the contents that the affected packages of a tree
	// consist of. It is called for all findings of a tree in a row.
	Files func(ctx context.Context, t *Tree, hits []Hit) ([]object.ContentID, error)
	// Ask returns those of some contents that were opened on a cell as far
	// as it knows. It is called concurrently.
	Ask func(ctx context.Context, c *fleet.Cell, ids []object.ContentID) ([]object.ContentID, error)
}

// openAtOnce bounds the cells that are asked at the same time.
const openAtOnce = 32

// AskOpened asks every cell that runs an affected tree whether it saw the
// affected contents opened, and notes it in the findings. A cell that does not
// say is one of which it is unknown. The error is one of Files.
func (r *Report) AskOpened(ctx context.Context, cells []fleet.Cell, o Openings) error {
	// Tree by tree: reading what a tree consists of is the dear part.
	order := make([]*Finding, 0, len(r.Findings))
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Affected() && len(f.Containers) > 0 && !f.Tree.Droplet {
			order = append(order, f)
		}
	}
	slices.SortStableFunc(order, func(a, b *Finding) int { return strings.Compare(a.Tree.ID, b.Tree.ID) })
	for _, f := range order {
		var asked []*fleet.Cell
		for i := range cells {
			c := &cells[i]
			if c.Answers() && slices.ContainsFunc(c.Containers, func(one fleet.Container) bool { return one.Tree == f.Tree.ID }) {
				asked = append(asked, c)
			}
		}
		if len(asked) == 0 {
			continue
		}
		ids, err := o.Files(ctx, f.Tree, f.Hits)
		if err != nil {
			return err
		}
		f.Opened = map[string]int{}
		if len(ids) > 0 {
			f.ask(ctx, asked, ids, o)
		}
	}
	return nil
}

func (f *Finding) ask(ctx context.Context, cells []*fleet.Cell, ids []object.ContentID, o Openings) {
	var mu sync.Mutex
	slots := make(chan struct{}, openAtOnce)
	var wg sync.WaitGroup
	for _, c := range cells {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			opened, err := o.Ask(ctx, c, ids)
			if err != nil || len(opened) == 0 {
				return
			}
			mu.Lock()
			f.Opened[c.Name] += len(opened)
			mu.Unlock()
		})
	}
	wg.Wait()
}
