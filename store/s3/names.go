package s3

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
)

// key is an object's name in 22 bytes: a repository has millions.
type key struct {
	hash object.Hash
	typ  object.Type
}

func keyOf(name string) (key, bool) {
	h, t, ok := object.ParsePath(name)
	return key{h, t}, ok
}

// shard is the data/xx that k lies in.
func (k key) shard() byte { return k.hash.Digest[0] }

func (k key) name() string { return object.Path(k.hash, k.typ) }

// headsFirst is for how many objects of one data/xx the server is asked singly
// before that data/xx is listed: one page of a listing has 1000 names.
const headsFirst = 2

// names is which objects the bucket holds, one data/xx after the other as they
// are asked for. It counts only while the lock is held: all others that put or
// delete need the lock, too.
type names struct {
	mu     sync.Mutex
	on     bool
	shards [256]*shard
}

type shard struct {
	asked  int
	listed bool
	busy   chan struct{} // closed when a listing under way has ended
	sizes  map[key]int64 // what is known to be there; if listed, all there is
}

// reset begins anew, with nothing known.
func (n *names) reset(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.on, n.shards = on, [256]*shard{}
}

func (n *names) shard(k key) *shard {
	sh := n.shards[k.shard()]
	if sh == nil {
		sh = &shard{sizes: map[key]int64{}}
		n.shards[k.shard()] = sh
	}
	return sh
}

// has answers from what is known, after a listing if it is time for one. known
// is false if the server has to be asked for the one name.
func (n *names) has(ctx context.Context, s *Store, name string) (size int64, ok, known bool, err error) {
	k, is := keyOf(name)
	if !is {
		return 0, false, false, nil
	}
	for {
		n.mu.Lock()
		if !n.on {
			n.mu.Unlock()
			return 0, false, false, nil
		}
		sh := n.shard(k)
		size, ok = sh.sizes[k]
		if ok || sh.listed {
			n.mu.Unlock()
			return size, ok, true, nil
		}
		if sh.asked++; sh.asked <= headsFirst {
			n.mu.Unlock()
			return 0, false, false, nil
		}
		if busy := sh.busy; busy != nil {
			n.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return 0, false, true, fmt.Errorf("look for %s: %w", name, ctx.Err())
			}
		}
		sh.busy = make(chan struct{})
		n.mu.Unlock()
		sizes, err := s.listShard(ctx, k.shard())
		n.mu.Lock()
		if err == nil {
			for k, size := range sizes {
				sh.sizes[k] = size
			}
			sh.listed = true
		}
		close(sh.busy)
		sh.busy = nil
		n.mu.Unlock()
		if err != nil {
			return 0, false, true, err
		}
	}
}

func (n *names) add(k key, size int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on {
		n.shard(k).sizes[k] = size
	}
}

// forget drops what is known of the data/xx of a name that is to be deleted.
func (n *names) forget(name string) {
	k, ok := keyOf(name)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if sh := n.shards[k.shard()]; sh != nil {
		delete(sh.sizes, k)
	}
}

// listShard asks for the names below data/xx.
func (s *Store) listShard(ctx context.Context, xx byte) (map[key]int64, error) {
	sizes := map[key]int64{}
	err := s.list(ctx, fmt.Sprintf("data/%02x/", xx), func(name string, size int64, _ time.Time) error {
		if k, ok := keyOf(name); ok {
			sizes[k] = size
		}
		return nil
	})
	return sizes, err
}

// List calls yield for each name that starts with prefix.
func (s *Store) List(ctx context.Context, prefix string, yield func(name string, size int64) error) error {
	return s.ListAged(ctx, prefix, func(name string, size int64, _ time.Time) error { return yield(name, size) })
}

// ListAged is List with the times at which the bucket got the objects.
func (s *Store) ListAged(ctx context.Context, prefix string, yield func(name string, size int64, put time.Time) error) error {
	if p := strings.TrimSuffix(prefix, "/"); p != "" || prefix != "" {
		if err := store.CheckName(p); err != nil {
			return fmt.Errorf("list: %w", err)
		}
	}
	return s.list(ctx, prefix, yield)
}

func (s *Store) list(ctx context.Context, prefix string, yield func(name string, size int64, put time.Time) error) error {
	leave, err := s.turn(ctx, "list "+prefix)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	own := s.key("")
	for e := range s.client.ListObjectsIter(ctx, s.o.Bucket, minio.ListObjectsOptions{Prefix: own + prefix, Recursive: true}) {
		if e.Err != nil {
			return fmt.Errorf("list %s/%s: %w", s.spec, prefix, s.explain(e.Err))
		}
		name, ok := strings.CutPrefix(e.Key, own)
		if !ok || store.CheckName(name) != nil {
			continue // ours, or nobody's
		}
		if err := yield(name, e.Size, e.LastModified); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("list %s/%s: %w", s.spec, prefix, err)
	}
	return nil
}
