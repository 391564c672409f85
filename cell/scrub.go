package cell

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

// Scrub is the parameter of CallScrub.
type Scrub struct {
	Rate int64 `json:"rate,omitempty"` // bytes per second; 0 for as fast as the disk
}

// Scrubbed is its result.
type Scrubbed struct {
	Contents int            `json:"contents"`
	Bytes    int64          `json:"bytes"`
	Damaged  []DamageReport `json:"damaged"`
}

// DamageReport is one content that was not what its name says. It was removed,
// and replaced where something in view needs it.
type DamageReport struct {
	Content  string `json:"content"` // SHA-256 of what it should be
	Bytes    int64  `json:"bytes"`
	Replaced bool   `json:"replaced"`
	// Failure says why it could not be replaced. It will be fetched when it is
	// read.
	Failure string   `json:"failure,omitempty"`
	Paths   []string `json:"paths,omitempty"` // where it is shown, at most maxPaths
	// Containers stand on trees that hold it. They may have read what was
	// wrong, or have it mapped.
	Containers []string `json:"containers"`
}

const maxPaths = 10

// scrub reads the whole cache.
func (c *Cell) scrub(ctx context.Context, p Scrub, progress func(any)) (Scrubbed, error) {
	found := []cache.Damaged{}
	before := c.cache.Stats().Scrubbed
	stop := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		for {
			select {
			case <-stop:
				return
			case <-time.After(progressPause):
				progress(Scrubbed{Bytes: c.cache.Stats().Scrubbed - before, Damaged: []DamageReport{}})
			}
		}
	}()
	r, err := c.cache.Scrub(ctx, p.Rate, func(d cache.Damaged) { found = append(found, d) })
	close(stop)
	<-told
	s := Scrubbed{Contents: r.Contents, Bytes: r.Bytes, Damaged: []DamageReport{}}
	if err != nil {
		return s, err
	}
	s.Damaged = c.repair(ctx, found)
	return s, nil
}

// repair finds who shows what was damaged, and has it fetched again.
func (c *Cell) repair(ctx context.Context, found []cache.Damaged) []DamageReport {
	reports := make([]DamageReport, len(found))
	if len(found) == 0 {
		return reports
	}
	byKey := map[cache.Key]int{}
	for i, d := range found {
		reports[i] = DamageReport{Content: d.Sum.String(), Bytes: d.Size, Containers: []string{}}
		for _, k := range d.Names {
			byKey[k] = i
		}
	}
	for _, m := range c.mounted() {
		m.repair(ctx, byKey, reports)
	}
	for i, d := range found {
		for _, k := range d.Names {
			c.repairImages(ctx, k.ID(), &reports[i])
		}
	}
	for i := range reports {
		r := &reports[i]
		c.o.Log.Error("cached content was damaged on disk", "content", r.Content, "replaced", r.Replaced,
			"containers", r.Containers, "paths", r.Paths, "failure", r.Failure)
	}
	return reports
}

// repair looks through the trees that containers stand on and the catalogs that
// are in use.
func (m *mounted) repair(ctx context.Context, byKey map[cache.Key]int, reports []DamageReport) {
	for _, h := range m.repo.Mapped() {
		if i, ok := byKey[cache.Index(h)]; ok {
			m.repo.Forget(h)
			reports[i].Replaced = true // by the next who looks into it
		}
	}
	for _, t := range m.pins.trees() {
		tree, err := m.repo.Pin(t.catalog, t.size)
		if err != nil {
			continue
		}
		err = m.repo.Files(ctx, tree.Node, func(f client.Found) error { return m.repairFile(ctx, f, t.handles, byKey, reports) })
		m.repo.Unpin(t.catalog)
		if err != nil {
			m.cell.o.Log.Warn("scrub cannot look through a container's tree", "repository", m.o.Name,
				"containers", t.handles, "error", err)
		}
	}
	err := m.repo.MappedFiles(ctx, func(f client.Found) error { return m.repairFile(ctx, f, nil, byKey, reports) })
	if err != nil && !errors.Is(err, context.Canceled) {
		m.cell.o.Log.Warn("scrub cannot look through the catalogs in use", "repository", m.o.Name, "error", err)
	}
}

// repairImages does the same for containers on images, whose tables have contents
// by one of their names.
func (c *Cell) repairImages(ctx context.Context, id object.ContentID, r *DamageReport) {
	if c.images == nil {
		return
	}
	trees := c.images.Naming(id)
	if len(trees) == 0 {
		return
	}
	for _, m := range c.mounted() {
		for _, t := range trees {
			for _, h := range m.pins.on(t.String(), object.Hash{}) {
				if !slices.Contains(r.Containers, h) {
					r.Containers = append(r.Containers, h)
				}
			}
		}
	}
	if err := c.images.Restore(ctx, id); err != nil {
		r.Failure = err.Error()
		return
	}
	r.Replaced, r.Failure = true, ""
}

func (m *mounted) repairFile(ctx context.Context, f client.Found, handles []string, byKey map[cache.Key]int, reports []DamageReport) error {
	hit := -1
	for _, k := range f.Keys {
		i, ok := byKey[k]
		if !ok {
			continue
		}
		hit = i
		r := &reports[i]
		for _, h := range handles {
			if !slices.Contains(r.Containers, h) {
				r.Containers = append(r.Containers, h)
			}
		}
		if len(r.Paths) < maxPaths && !slices.Contains(r.Paths, f.Path) {
			r.Paths = append(r.Paths, f.Path)
		}
	}
	if hit < 0 || reports[hit].Replaced {
		return nil
	}
	if _, err := m.repo.Fetch(ctx, f.Node); err != nil {
		reports[hit].Failure = err.Error()
		return ctx.Err()
	}
	for _, k := range f.Keys {
		if i, ok := byKey[k]; ok {
			reports[i].Replaced, reports[i].Failure = true, ""
		}
	}
	return nil
}

// scrubLoop reads the cache again and again, slowly.
func (c *Cell) scrubLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.rescrub):
		}
		if _, err := c.scrub(ctx, Scrub{Rate: c.o.ScrubRate}, func(any) {}); err == nil {
			c.scrubbed.Store(c.o.Clock().Unix())
		}
	}
}
