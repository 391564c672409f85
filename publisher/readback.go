package publisher

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory/packages"
	"github.com/rootstock-cf/rootstock/publisher/revision"
)

// Contents that are read back: small ones, most of them, many at once, since
// each may be a request to a bucket; large ones one after the other and never
// held whole.
const (
	smallContent  = 256 << 10 // bytes
	readBackAhead = 32        // contents
)

// readBack feeds found the contents of entries, which are stored.
func (p *Publisher) readBack(ctx context.Context, found *packages.Collector, entries []imagemeta.Entry, stored revision.Contents) error {
	for len(entries) > 0 {
		batch := entries[:min(readBackAhead, len(entries))]
		entries = entries[len(batch):]
		ready := make([]bytes.Buffer, len(batch))
		group, early := errgroup.WithContext(ctx)
		for i := range batch {
			if e := &batch[i]; e.Size <= smallContent {
				group.Go(func() error { return p.fetchEntry(early, e, stored, &ready[i]) })
			}
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for i := range batch {
			if err := p.feed(ctx, found, &batch[i], stored, &ready[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// feed gives found a content: that in ready, or the stored one if it is large.
func (p *Publisher) feed(ctx context.Context, found *packages.Collector, e *imagemeta.Entry, stored revision.Contents, ready *bytes.Buffer) error {
	f := found.Watch(e.Path, e.Mode, e.Size)
	if f == nil {
		return nil
	}
	if e.Size > smallContent {
		if err := p.fetchEntry(ctx, e, stored, f); err != nil {
			return err
		}
	} else if _, err := ready.WriteTo(f); err != nil {
		return err
	}
	f.Done(e.Content)
	return nil
}

func (p *Publisher) fetchEntry(ctx context.Context, e *imagemeta.Entry, stored revision.Contents, w io.Writer) error {
	s, ok := stored(e.Content)
	if !ok {
		return fmt.Errorf("packages of %q: content %s is not stored", e.Path, e.Content)
	}
	if err := fetchContent(ctx, p.o.Store, s, w); err != nil {
		return fmt.Errorf("packages of %q: %w", e.Path, err)
	}
	return nil
}
