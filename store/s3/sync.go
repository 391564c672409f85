package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"golang.org/x/sync/errgroup"
)

// stored notes an object that the server says it has taken.
func (s *Store) stored(name string, size int64) {
	k, ok := keyOf(name)
	if !ok {
		return
	}
	s.mu.Lock()
	s.unverified[k] = size
	s.mu.Unlock()
	s.names.add(k, size)
}

// Sync makes sure that the server has everything it said it took since the last
// Sync: it asks for listings, or for single names where they are few. S3 has
// stored what it lists; there is nothing else to be made durable. What is
// missing, or has another size, is ErrNotStored, and stays to be asked for.
func (s *Store) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sync %s: %w", s.spec, err)
	}
	if err := s.lock.lostBy(); err != nil {
		return fmt.Errorf("sync %s: %w", s.spec, err)
	}
	s.mu.Lock()
	all := s.unverified
	s.unverified = map[key]int64{}
	s.mu.Unlock()
	shards := map[byte]map[key]int64{}
	for k, size := range all {
		if shards[k.shard()] == nil {
			shards[k.shard()] = map[key]int64{}
		}
		shards[k.shard()][k] = size
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, s.o.Concurrency/2))
	for xx, want := range shards {
		group.Go(func() error { return s.verify(gctx, xx, want) })
	}
	if err := group.Wait(); err != nil {
		s.mu.Lock()
		maps.Copy(all, s.unverified)
		s.unverified = all
		s.mu.Unlock()
		s.names.drop()
		return fmt.Errorf("sync %s: %w", s.spec, err)
	}
	return nil
}

// drop forgets all names, which may have been wrong, and asks anew.
func (n *names) drop() {
	n.mu.Lock()
	on := n.known != nil
	n.mu.Unlock()
	n.reset(on)
}

// verify compares what the server has in one data/xx with what it must have.
func (s *Store) verify(ctx context.Context, xx byte, want map[key]int64) error {
	var have map[key]int64
	if len(want) <= headsFirst {
		have = map[key]int64{}
		for k := range want {
			info, err := s.stat(ctx, k.name())
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
			have[k] = info.Size
		}
	} else {
		var err error
		if have, _, err = s.listObjects(ctx, fmt.Sprintf("data/%02x/", xx), 0); err != nil {
			return err
		}
	}
	for k, size := range want {
		switch got, ok := have[k]; {
		case !ok:
			return fmt.Errorf("%w: %s is missing; nothing was published; look after the server, then publish again", ErrNotStored, k.name())
		case got != size:
			return fmt.Errorf("%w: %s has %d bytes instead of %d; nothing was published; look after the server, then publish again", ErrNotStored, k.name(), got, size)
		}
	}
	return nil
}
