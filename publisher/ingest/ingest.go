// Package ingest turns contents into stored objects: it reads plain bytes,
// names them by their SHA-256, cuts large ones into pieces, compresses each
// piece once, and puts what the store does not have.
//
// One goroutine reads; pieces are compressed and stored beside it. What comes
// out, object by object, depends on the bytes and the options only, never on
// the number of workers or on the order of contents.
package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// ErrDamaged reports an object in the store that is not as long as it must be.
var ErrDamaged = errors.New("object in the store is damaged")

// Putter is what ingesting needs of a store.Store.
type Putter interface {
	// Has reports whether name is there, and its size in bytes.
	Has(ctx context.Context, name string) (size int64, ok bool, err error)
	// Put stores data under name. It must not keep data.
	Put(ctx context.Context, name string, data []byte) error
}

// Options say how contents are stored.
type Options struct {
	Compression object.Compression
	Algorithm   object.Algorithm
	// Chunking says how large contents are cut. If it is off, each content
	// is held in memory whole, however large.
	Chunking Chunking
	Workers  int // pieces compressed at once; 0 is GOMAXPROCS
	// Requests bounds the pieces on their way, most of which wait for the
	// store; 0 is 64.
	Requests int
	Index    *Index // remembers earlier runs; may be nil. New's caller closes it.
}

// Counters say what an [Ingester] has done so far.
type Counters struct {
	BytesIn      int64 // plain bytes read
	BytesStored  int64 // bytes put into the store
	ObjectsNew   int64 // objects put into the store
	ObjectsKnown int64 // objects that were there already
}

// Ingester is one run. Its methods may be called concurrently, except that
// Wait comes after the last Ingest.
//
// Its memory is bounded by Workers+2 pieces of the largest size, and once more
// Workers pieces of compressed bytes; small contents take little of that.
type Ingester struct {
	st     Putter
	o      Options
	ctx    context.Context //nolint:containedctx // the run's, ended by its first error
	cancel context.CancelCauseFunc

	buffers *buffers
	flight  chan struct{} // pieces on their way
	slots   chan []byte   // memory for compressed bytes, one per worker
	cutting chan struct{} // who may hold one buffer and wait for the next
	wg      sync.WaitGroup

	mu       sync.Mutex
	contents map[object.ContentID]*content
	units    map[unitKey]object.Hash // null until stored

	in, out, fresh, known atomic.Int64
}

// content is what a whole content consists of: itself, or two or more pieces.
type content struct {
	size   int64
	pieces []*piece // nil for a content in one object
}

// piece is a part of a content. Its name is set by the worker that hashes it.
type piece struct {
	id   object.ContentID
	size int64
}

// unitKey is one object to be stored: the same bytes as a content and as a
// piece of another are two.
type unitKey struct {
	id  object.ContentID
	typ object.Type // Bulk or Partial
}

// New starts a run that stores into st. It ends with ctx or with its first
// error. It returns an error for options that make no sense.
func New(ctx context.Context, st Putter, o Options) (*Ingester, error) {
	if err := o.Chunking.Check(); err != nil {
		return nil, err
	}
	if !o.Compression.Valid() || !o.Algorithm.Valid() {
		return nil, fmt.Errorf("cannot store objects as %s, %s", o.Compression, o.Algorithm)
	}
	if o.Index != nil && o.Index.key != keyOf(o) {
		return nil, errors.New("the index is of another compression, hash or chunking")
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Requests <= 0 {
		o.Requests = 64
	}
	largest := o.Chunking.Max
	if !o.Chunking.Enabled() {
		largest = DefaultChunking.Max
	}
	in := &Ingester{
		st: st, o: o,
		buffers:  newBuffers(int64(o.Workers+2) << class(int(largest))),
		flight:   make(chan struct{}, max(o.Requests, o.Workers)),
		slots:    make(chan []byte, o.Workers),
		cutting:  make(chan struct{}, 1),
		contents: map[object.ContentID]*content{},
		units:    map[unitKey]object.Hash{},
	}
	for range o.Workers {
		in.slots <- nil
	}
	in.ctx, in.cancel = context.WithCancelCause(ctx)
	return in, nil
}

// Ingest reads exactly size bytes of r and returns their name. Their objects
// are stored when Wait has returned. After an error, whoever's it was, this
// and all other calls return the first one.
func (in *Ingester) Ingest(ctx context.Context, size int64, r io.Reader) (object.ContentID, error) {
	if err := in.failed(); err != nil {
		return object.ContentID{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(in.ctx, func() { cancel(context.Cause(in.ctx)) })()
	defer cancel(nil)
	id, err := in.ingest(ctx, size, r)
	if err != nil {
		return object.ContentID{}, in.fail(err)
	}
	return id, nil
}

func (in *Ingester) ingest(ctx context.Context, size int64, r io.Reader) (object.ContentID, error) {
	if size < 0 {
		return object.ContentID{}, fmt.Errorf("content of %d bytes", size)
	}
	if !in.o.Chunking.Enabled() && size > maxPiece {
		return object.ContentID{}, fmt.Errorf("content of %d bytes: more than %d cannot be stored without chunking", size, maxPiece)
	}
	if in.o.Chunking.Enabled() && size > in.o.Chunking.Min {
		return in.ingestLarge(ctx, size, r)
	}
	b, err := in.buffers.get(ctx, int(size))
	if err != nil {
		return object.ContentID{}, err
	}
	if err := in.fill(b, r); err != nil {
		in.buffers.put(b)
		return object.ContentID{}, err
	}
	id := object.ContentOf(b)
	return id, in.whole(ctx, id, b)
}

// ingestLarge reads a content piece by piece. What a buffer holds beyond a cut
// is moved to the next one: a copy, but of memory, and far cheaper than the
// hash.
func (in *Ingester) ingestLarge(ctx context.Context, size int64, r io.Reader) (object.ContentID, error) {
	select {
	case in.cutting <- struct{}{}:
		defer func() { <-in.cutting }()
	case <-ctx.Done():
		return object.ContentID{}, context.Cause(ctx)
	}
	sum := sha256.New()
	largest := in.o.Chunking.Max
	b, err := in.buffers.get(ctx, int(min(size, largest)))
	if err != nil {
		return object.ContentID{}, err
	}
	var pieces []*piece
	for have, left := 0, size; ; {
		if err := in.fill(b[have:], r); err != nil {
			in.buffers.put(b)
			return object.ContentID{}, err
		}
		sum.Write(b[have:]) //nolint:errcheck // a hash.Hash never fails
		cut := in.o.Chunking.Cut(b)
		if int64(cut) == size { // in one piece after all
			id := object.ContentID(sum.Sum(nil))
			return id, in.whole(ctx, id, b)
		}
		left -= int64(cut)
		var next []byte
		if left > 0 {
			if next, err = in.buffers.get(ctx, int(min(left, largest))); err != nil {
				in.buffers.put(b)
				return object.ContentID{}, err
			}
			have = copy(next, b[cut:])
		}
		p, plain := &piece{size: int64(cut)}, b[:cut]
		pieces = append(pieces, p)
		if err := in.start(ctx, b, func() error { return in.piece(p, plain) }); err != nil {
			if next != nil {
				in.buffers.put(next)
			}
			return object.ContentID{}, err
		}
		if left == 0 {
			break
		}
		b = next
	}
	id := object.ContentID(sum.Sum(nil))
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.contents[id] == nil {
		in.contents[id] = &content{size: size, pieces: pieces}
	}
	return id, nil
}

// fill reads all of b.
func (in *Ingester) fill(b []byte, r io.Reader) error {
	n, err := io.ReadFull(r, b)
	in.in.Add(int64(n))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read content: %w", err)
	}
	return nil
}

// whole stores b as the one object of content id, unless this run has met it
// before. It gives b back.
func (in *Ingester) whole(ctx context.Context, id object.ContentID, b []byte) error {
	in.mu.Lock()
	met := in.contents[id] != nil
	if !met {
		in.contents[id] = &content{size: int64(len(b))}
	}
	in.mu.Unlock()
	if met {
		in.buffers.put(b)
		return nil
	}
	return in.start(ctx, b, func() error { return in.store(unitKey{id, object.Bulk}, b) })
}

// start runs work beside the caller as soon as there is room, and gives b back
// when it has ended.
func (in *Ingester) start(ctx context.Context, b []byte, work func() error) error {
	select {
	case in.flight <- struct{}{}:
	case <-ctx.Done():
		in.buffers.put(b)
		return context.Cause(ctx)
	}
	in.wg.Go(func() {
		defer func() { <-in.flight }()
		defer in.buffers.put(b)
		if err := work(); err != nil {
			in.fail(err) //nolint:errcheck // all calls return it
		}
	})
	return nil
}

// Wait waits until all contents are stored and returns the run's first error.
func (in *Ingester) Wait() error {
	in.wg.Wait()
	if err := in.failed(); err != nil {
		return err
	}
	if in.o.Index != nil {
		in.mu.Lock()
		defer in.mu.Unlock()
		for id, c := range in.contents {
			in.o.Index.addList(id, c.pieces)
		}
	}
	return nil
}

// Stored returns where a content of this run is stored. ok is false for one
// that this run has not met or not finished.
func (in *Ingester) Stored(id object.ContentID) (s imagemeta.Stored, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c := in.contents[id]
	if c == nil {
		return imagemeta.Stored{}, false
	}
	s = imagemeta.Stored{Size: c.size, Compression: in.o.Compression}
	if c.pieces == nil {
		s.Hash = in.units[unitKey{id, object.Bulk}]
		return s, !s.Hash.IsZero()
	}
	s.Chunks = make([]imagemeta.Chunk, len(c.pieces))
	for i, p := range c.pieces {
		hash := in.units[unitKey{p.id, object.Partial}]
		if hash.IsZero() {
			return imagemeta.Stored{}, false
		}
		s.Chunks[i] = imagemeta.Chunk{Size: p.size, Hash: hash}
	}
	return s, true
}

// Counters returns what has been done so far.
func (in *Ingester) Counters() Counters {
	return Counters{
		BytesIn: in.in.Load(), BytesStored: in.out.Load(),
		ObjectsNew: in.fresh.Load(), ObjectsKnown: in.known.Load(),
	}
}

// fail ends the run with err, unless it has ended, and returns what it ended
// with.
func (in *Ingester) fail(err error) error {
	in.cancel(err)
	return in.failed()
}

func (in *Ingester) failed() error { return context.Cause(in.ctx) }
