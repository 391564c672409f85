package ingest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/rootstock-cf/rootstock/object"
)

// AdoptAll makes contents part of this run without their bytes where an earlier
// run has stored them and the store still has all of each, and reports, in the
// order of ids, which those are. It asks the store once per object, as many at
// once as Options.Requests says.
func (in *Ingester) AdoptAll(ctx context.Context, ids []object.ContentID) ([]bool, error) {
	there := make([]bool, len(ids))
	if err := in.failed(); err != nil {
		return nil, err
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(cap(in.flight), len(ids)) {
		wg.Go(func() {
			for in.failed() == nil {
				at := next.Add(1) - 1
				if at >= int64(len(ids)) {
					return
				}
				ok, err := in.adopt(ctx, ids[at])
				if err != nil {
					in.fail(err) //nolint:errcheck // returned below
					return
				}
				there[at] = ok
			}
		})
	}
	wg.Wait()
	return there, in.failed()
}

// Adopt is AdoptAll of one content.
func (in *Ingester) Adopt(ctx context.Context, id object.ContentID) (bool, error) {
	if err := in.failed(); err != nil {
		return false, err
	}
	ok, err := in.adopt(ctx, id)
	if err != nil {
		return false, in.fail(err)
	}
	return ok, nil
}

func (in *Ingester) adopt(ctx context.Context, id object.ContentID) (bool, error) {
	in.mu.Lock()
	met := in.contents[id] != nil
	in.mu.Unlock()
	if met || in.o.Index == nil {
		return met, nil
	}
	c, err := in.recall(ctx, id)
	if err != nil || c == nil {
		return false, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.contents[id] == nil {
		in.contents[id] = c
	}
	return true, nil
}

// recall returns where an earlier run has stored a content, if the store still
// has all of its objects, and nil otherwise.
func (in *Ingester) recall(ctx context.Context, id object.ContentID) (*content, error) {
	typ, ids := object.Bulk, []object.ContentID{id}
	list := in.o.Index.list(id)
	if list != nil {
		typ, ids = object.Partial, list
	}
	c := &content{}
	hashes := make([]object.Hash, len(ids))
	for i, part := range ids {
		r, ok := in.o.Index.lookup(part)
		if !ok {
			return nil, nil
		}
		there, err := in.has(ctx, r.hash, typ, r.stored)
		if err != nil || !there {
			return nil, err
		}
		hashes[i] = r.hash
		c.size += r.size
		if typ == object.Partial {
			c.pieces = append(c.pieces, &piece{id: part, size: r.size})
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, part := range ids {
		key := unitKey{part, typ}
		if _, met := in.units[key]; !met {
			in.known.Add(1)
		}
		in.units[key] = hashes[i]
	}
	return c, nil
}
