package ingest

import (
	"context"
	"fmt"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// piece names and stores a piece of a content, unless it has been met before.
func (in *Ingester) piece(p *piece, plain []byte) error {
	slot, err := in.slot()
	if err != nil {
		return err
	}
	id := object.ContentOf(plain)
	in.slots <- slot
	in.mu.Lock()
	p.id = id
	_, met := in.units[unitKey{id, object.Partial}]
	if !met {
		in.units[unitKey{id, object.Partial}] = object.Hash{}
	}
	in.mu.Unlock()
	if met {
		return nil
	}
	return in.store(unitKey{id, object.Partial}, plain)
}

// store makes sure that the object for plain is in the store. plain is
// overwritten.
func (in *Ingester) store(key unitKey, plain []byte) error {
	size := int64(len(plain))
	if in.o.Index != nil {
		if r, ok := in.o.Index.lookup(key.id); ok && r.size == size {
			there, err := in.has(in.ctx, r.hash, key.typ, r.stored)
			if err != nil {
				return err
			}
			if there {
				in.known.Add(1)
				in.done(key, r.hash)
				return nil
			}
		}
	}
	hash, stored, err := in.encode(plain)
	if err != nil {
		return err
	}
	there, err := in.has(in.ctx, hash, key.typ, int64(len(stored)))
	if err != nil {
		return err
	}
	if there {
		in.known.Add(1)
	} else {
		if err := in.st.Put(in.ctx, object.Path(hash, key.typ), stored); err != nil {
			return fmt.Errorf("put %s: %w", object.Path(hash, key.typ), err)
		}
		in.fresh.Add(1)
		in.out.Add(int64(len(stored)))
	}
	if in.o.Index != nil {
		in.o.Index.add(key.id, record{size: size, stored: int64(len(stored)), hash: hash})
	}
	in.done(key, hash)
	return nil
}

// encode compresses plain and names the result. It waits for a worker's turn,
// and so that turn need not last until the store has answered, the result
// takes plain's place where it fits.
func (in *Ingester) encode(plain []byte) (object.Hash, []byte, error) {
	slot, err := in.slot()
	if err != nil {
		return object.Hash{}, nil, err
	}
	defer func() { in.slots <- slot }()
	if in.o.Compression == object.None {
		return in.o.Algorithm.Sum(plain), plain, nil
	}
	slot, err = codec.Encode(in.o.Compression, slot[:0], plain)
	if err != nil {
		return object.Hash{}, nil, err
	}
	return in.o.Algorithm.Sum(slot), append(plain[:0], slot...), nil
}

// slot waits for a worker's turn, which ends when slot is given back.
func (in *Ingester) slot() ([]byte, error) {
	select {
	case slot := <-in.slots:
		return slot, nil
	case <-in.ctx.Done():
		return nil, context.Cause(in.ctx)
	}
}

// has reports whether the store has an object. One of another size than
// stored is what an unclean stop left behind.
func (in *Ingester) has(ctx context.Context, hash object.Hash, typ object.Type, stored int64) (bool, error) {
	name := object.Path(hash, typ)
	size, ok, err := in.st.Has(ctx, name)
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	if ok && size != stored {
		return false, fmt.Errorf("%w: %s has %d bytes instead of %d; remove it and publish again", ErrDamaged, name, size, stored)
	}
	return ok, nil
}

func (in *Ingester) done(key unitKey, hash object.Hash) {
	in.mu.Lock()
	in.units[key] = hash
	in.mu.Unlock()
}
