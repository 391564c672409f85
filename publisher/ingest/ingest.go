// Package ingest turns contents into stored objects: it reads plain bytes,
// names them by their SHA-256, cuts large ones into pieces, compresses each
// piece once, and puts what the store does not have.
//
// One goroutine reads; contents are named, compressed and stored beside it.
// What comes out, object by object, depends on the bytes and the options only,
// never on the number of workers or on the order of contents.
package ingest

import (
	"context"
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
	naming  sync.WaitGroup // contents without a name yet

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
	name := make(chan object.ContentID, 1)
	if err := in.Take(ctx, size, r, func(id object.ContentID) { name <- id }); err != nil {
		return object.ContentID{}, err
	}
	select {
	case id := <-name:
		return id, nil
	case <-in.ctx.Done():
		return object.ContentID{}, in.failed()
	case <-ctx.Done():
		return object.ContentID{}, in.fail(context.Cause(ctx))
	}
}

// Take is Ingest for a caller who goes on reading meanwhile: it reads exactly
// size bytes of r before it returns, and named is told their name from another
// goroutine, before Settle returns.
func (in *Ingester) Take(ctx context.Context, size int64, r io.Reader, named func(object.ContentID)) error {
	if err := in.failed(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(in.ctx, func() { cancel(context.Cause(in.ctx)) })()
	defer cancel(nil)
	if err := in.take(ctx, size, r, named); err != nil {
		return in.fail(err)
	}
	return nil
}

// Settle returns when all contents taken so far have been named, or with the
// run's first error. It must not be called beside Take.
func (in *Ingester) Settle() error {
	in.naming.Wait()
	return in.failed()
}

func (in *Ingester) take(ctx context.Context, size int64, r io.Reader, named func(object.ContentID)) error {
	chunked := in.o.Chunking.Enabled()
	switch {
	case size < 0:
		return fmt.Errorf("content of %d bytes", size)
	case !chunked && size > maxPiece:
		return fmt.Errorf("content of %d bytes: more than %d cannot be stored without chunking", size, maxPiece)
	case chunked && size > in.o.Chunking.Max:
		return in.takeLarge(ctx, size, r, named)
	}
	b, err := in.buffers.get(ctx, int(size))
	if err != nil {
		return err
	}
	if err := in.fill(b, r); err != nil {
		in.buffers.put(b)
		return err
	}
	return in.name(ctx, b, named)
}

// name names a content that is all in b, and stores it, beside the caller.
func (in *Ingester) name(ctx context.Context, b []byte, named func(object.ContentID)) error {
	in.naming.Add(1)
	err := in.start(ctx, b, func() error {
		id, err := in.identify(b, named)
		if err != nil {
			return err
		}
		return in.whole(id, b)
	})
	if err != nil {
		in.naming.Done()
	}
	return err
}

func (in *Ingester) identify(b []byte, named func(object.ContentID)) (object.ContentID, error) {
	defer in.naming.Done()
	slot, err := in.slot()
	if err != nil {
		return object.ContentID{}, err
	}
	id := object.ContentOf(b)
	in.slots <- slot
	named(id)
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

// whole stores content id, which is b, unless this run has met it before. It is
// cut only if an earlier run has not stored it.
func (in *Ingester) whole(id object.ContentID, b []byte) error {
	c := &content{size: int64(len(b))}
	in.mu.Lock()
	met := in.contents[id] != nil
	if !met {
		in.contents[id] = c
	}
	in.mu.Unlock()
	if met {
		return nil
	}
	if !in.o.Chunking.Enabled() || c.size <= in.o.Chunking.Min {
		return in.store(unitKey{id, object.Bulk}, b)
	}
	if in.o.Index != nil {
		was, err := in.recall(in.ctx, id)
		if err != nil {
			return err
		}
		if was != nil {
			in.consists(c, was.pieces)
			return nil
		}
	}
	pieces := in.o.Chunking.pieces(b)
	if len(pieces) == 1 {
		return in.store(unitKey{id, object.Bulk}, b)
	}
	in.consists(c, pieces)
	for _, p := range pieces {
		if err := in.piece(p, b[:p.size:p.size]); err != nil {
			return err
		}
		b = b[p.size:]
	}
	return nil
}

func (in *Ingester) consists(c *content, pieces []*piece) {
	in.mu.Lock()
	c.pieces = pieces
	in.mu.Unlock()
}

// pieces cuts a content that is all in b.
func (c Chunking) pieces(b []byte) (all []*piece) {
	for len(b) > 0 {
		n := c.Cut(b)
		all = append(all, &piece{size: int64(n)})
		b = b[n:]
	}
	return all
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
