package cell

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// Warmed is the result of CallWarm and its progress. Sizes are bytes.
type Warmed struct {
	Files    int64 `json:"files"`
	Bytes    int64 `json:"bytes"`   // of files looked at
	Fetched  int64 `json:"fetched"` // of them, not in the cache before
	Failures int64 `json:"failures"`
	// Failure is the first one.
	Failure string `json:"failure,omitempty"`
}

const (
	warmers       = 16 // files fetched at a time
	progressPause = 500 * time.Millisecond
	maxFailures   = 100 // after which warming is given up
)

// warm fetches all contents below paths. A failure of one file does not end it;
// a cache that takes no more does.
func (c *Cell) warm(ctx context.Context, p Paths, progress func(any)) (Warmed, error) {
	var (
		mu   sync.Mutex
		done Warmed
		last = time.Now()
	)
	note := func(size, fetched int64, err error) error {
		mu.Lock()
		defer mu.Unlock()
		done.Files++
		done.Bytes += size
		done.Fetched += fetched
		if err != nil {
			if done.Failures++; done.Failures == 1 {
				done.Failure = err.Error()
			}
			if errors.Is(err, cache.ErrCannotStore) || done.Failures >= maxFailures {
				return err
			}
		}
		if now := time.Now(); now.Sub(last) >= progressPause {
			last = now
			progress(done)
		}
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(warmers)
	for _, text := range p.Paths {
		at, err := c.locate(ctx, text)
		if err == nil {
			err = at.m.repo.Files(ctx, at.node, func(f client.Found) error {
				name, size, node := f.Path, f.Size, f.Node
				g.Go(func() error {
					fetched, err := at.m.repo.Fetch(ctx, node)
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					if err != nil {
						err = fmt.Errorf("warm %s: %w", name, err)
					}
					return note(size, fetched, err)
				})
				return nil
			})
		}
		if err != nil {
			return done, errors.Join(g.Wait(), kind(err))
		}
	}
	err := g.Wait()
	return done, err
}

// keysBelow are the names in the cache of everything below a node.
func (m *mounted) keysBelow(ctx context.Context, n view.Node) ([]cache.Key, error) {
	var keys []cache.Key
	err := m.repo.Files(ctx, n, func(f client.Found) error {
		keys = append(keys, f.Keys...)
		return nil
	})
	return keys, err
}
