package s3

import (
	"context"
	"errors"
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

// onePage is how many names a server tells at a time.
const onePage = 1000

// headsFirst is for how many objects of one data/xx the server is asked singly
// before that data/xx is listed.
const headsFirst = 2

// names is which objects the bucket holds. The first question takes one page of
// a listing of all of data/: a new repository, into which most is put, has no
// more. Of a larger one, each data/xx is listed as it is asked for. All this
// counts only while the lock is held: all others that put or delete need the
// lock, too.
type names struct {
	mu    sync.Mutex
	known *known // nil without the lock
}

// known is what was learned since the lock was taken. Under the mutex of names,
// which may have forgotten it when a listing ends.
type known struct {
	first  listing
	all    bool // first told all there is
	shards [256]*shard
}

type shard struct {
	listing
	asked int
	sizes map[key]int64 // what is known to be there; if listed, all there is
}

type listing struct {
	listed bool
	busy   chan struct{} // closed when a listing under way has ended
}

// reset begins anew, with nothing known.
func (n *names) reset(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known = nil; on {
		n.known = &known{}
	}
}

func (kn *known) shard(k key) *shard {
	sh := kn.shards[k.shard()]
	if sh == nil {
		sh = &shard{sizes: map[key]int64{}}
		kn.shards[k.shard()] = sh
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
		kn := n.known
		if kn == nil {
			n.mu.Unlock()
			return 0, false, false, nil
		}
		sh := kn.shard(k)
		size, ok = sh.sizes[k]
		if ok || sh.listed || kn.all {
			n.mu.Unlock()
			return size, ok, true, nil
		}
		next, prefix := &kn.first, "data/"
		if kn.first.listed {
			if sh.asked++; sh.asked <= headsFirst {
				n.mu.Unlock()
				return 0, false, false, nil
			}
			next, prefix = &sh.listing, fmt.Sprintf("data/%02x/", k.shard())
		}
		if busy := next.busy; busy != nil {
			n.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return 0, false, true, fmt.Errorf("look for %s: %w", name, ctx.Err())
			}
		}
		next.busy = make(chan struct{})
		n.mu.Unlock()
		if err := n.learn(ctx, s, kn, next, prefix); err != nil {
			return 0, false, true, err
		}
	}
}

// learn asks for the names below prefix, which is next's.
func (n *names) learn(ctx context.Context, s *Store, kn *known, next *listing, prefix string) error {
	first := next == &kn.first
	limit := 0
	if first {
		limit = onePage
	}
	sizes, all, err := s.listObjects(ctx, prefix, limit)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		for k, size := range sizes {
			kn.shard(k).sizes[k] = size
		}
		next.listed = true
		kn.all = kn.all || first && all
	}
	close(next.busy)
	next.busy = nil
	return err
}

func (n *names) add(k key, size int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known != nil {
		n.known.shard(k).sizes[k] = size
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
	if n.known != nil {
		delete(n.known.shard(k).sizes, k)
	}
}

var errEnough = errors.New("enough is listed")

// listObjects asks for the names below prefix, of which it takes at most limit
// unless that is 0, and tells whether that was all.
func (s *Store) listObjects(ctx context.Context, prefix string, limit int) (sizes map[key]int64, all bool, err error) {
	sizes = map[key]int64{}
	told := 0
	err = s.list(ctx, prefix, func(name string, size int64, _ time.Time) error {
		if k, ok := keyOf(name); ok {
			sizes[k] = size
		}
		if told++; told == limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return sizes, false, nil
	}
	return sizes, true, err
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
